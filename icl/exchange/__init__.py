"""Exchange: episodes, prompts, adapters and trained learners for other programs."""

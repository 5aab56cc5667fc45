"""Models: loading, exact scoring, embeddings, LoRA with a task axis."""

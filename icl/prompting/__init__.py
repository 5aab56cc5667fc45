"""How a task is put before a language model, and how its answers are scored."""

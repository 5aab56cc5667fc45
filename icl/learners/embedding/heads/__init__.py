"""Heads: classifiers on vectors, batched over tasks, without a model or a text in sight."""

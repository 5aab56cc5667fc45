"""Scoring and writing: prompts and answers to numbers and texts."""

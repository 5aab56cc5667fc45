"""Adapters: LoRA as values, and PEFT's files."""

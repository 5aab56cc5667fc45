"""Learners that take gradient steps on LoRA factors."""

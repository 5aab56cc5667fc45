"""Learners: every way of adapting to a task from a few examples."""

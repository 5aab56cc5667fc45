"""Learners that read the support set in the prompt."""

"""Weights: where they lie and in which form."""

"""Packed tries: many sequences as one row, each token once."""

"""Baselines: no model, or a lottery."""

"""Experiments: one YAML file from its schema to its report."""

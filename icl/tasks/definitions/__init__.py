"""Definitions: the YAML of a family, checked."""

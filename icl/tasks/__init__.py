"""Tasks: definitions, templates, sources, families."""

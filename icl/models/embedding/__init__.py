"""Embeddings of texts, kept by content."""

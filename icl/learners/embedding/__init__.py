"""Learners on embeddings, frozen or trained."""

"""icl: in-context meta-learning with language models: every method on the same episodes."""

__version__ = "0.1.0"

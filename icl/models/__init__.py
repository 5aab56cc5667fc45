"""Models: loading, exact scoring, embeddings, LoRA with a task axis."""

from icl.models.base import Ability, Model

__all__ = ["Ability", "Model"]

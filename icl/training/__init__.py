"""Meta-training over episodes."""

from icl.training.config import TrainingConfig

__all__ = ["TrainingConfig"]

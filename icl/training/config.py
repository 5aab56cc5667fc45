"""The budget of a meta-training run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How a meta-learner is trained over episodes of the training split.

    Attributes:
        split: the meta-split to draw episodes from.
        steps: outer steps.
        meta_batch: episodes a step.
        shots, queries: of the training episodes; ways are the experiment's.
        learning_rate: of the outer Adam.
        clip_norm: largest norm of the meta-gradient.
        checkpoint_every: steps between checkpoints; 0 for the last step only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "train"
    steps: int = Field(default=50, ge=1)
    meta_batch: int = Field(default=4, ge=1)
    shots: int = Field(default=5, ge=1)
    queries: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=10, ge=0)

"""The budget of a meta-training run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How a meta-learner is trained over episodes of the training split.

    Attributes:
        split: the meta-split to draw episodes from.
        steps: outer steps.
        meta_batch: episodes a step.
        ways: of the training episodes, by default the experiment's; metric learners are best
            trained with more ways than they are judged on (Snell et al. 2017, section 2.5).
        shots, queries: of the training episodes.
        learning_rate: of the outer Adam.
        clip_norm: largest norm of the meta-gradient.
        checkpoint_every: steps between checkpoints; 0 for the last step only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "train"
    steps: int = Field(default=50, ge=1)
    meta_batch: int = Field(default=4, ge=1)
    ways: int | None = Field(default=None, ge=2)
    shots: int = Field(default=5, ge=1)
    queries: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=10, ge=0)

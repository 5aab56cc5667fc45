"""Reptile over LoRA factors (Nichol et al. 2018, arXiv 1803.02999)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from icl.learners.base import Choices
from icl.learners.gradient.algorithms import Reptile
from icl.learners.gradient.meta_learner import LoraMetaLearner, MetaParams


class ReptileParams(MetaParams):
    """The inner loop; one step alone would be joint training."""

    inner_steps: int = Field(default=4, ge=1)


class LoraReptile(LoraMetaLearner):
    """The start moves towards where training on each task ends.

    With LoRA's B = 0 a first step moves B only, so one inner step would never move A: take more, or
    ``start: orthogonal``.
    """

    method = "reptile"
    Params = ReptileParams
    search: ClassVar[Choices] = {**LoraMetaLearner.search, "inner_steps": (2, 4, 8)}
    Algorithm = Reptile

"""Meta-SGD over LoRA factors (Li et al. 2017, arXiv 1707.09835)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from icl.learners.gradient.algorithms import MetaAlgorithm, MetaSGD
from icl.learners.gradient.maml import MAMLParams
from icl.learners.gradient.meta_learner import LoraMetaLearner


class MetaSGDParams(MAMLParams):
    """The inner loop; the paper takes one step."""

    inner_steps: int = Field(default=1, ge=0)


class LoraMetaSGD(LoraMetaLearner):
    """A rate is learned for each element of each factor."""

    method: ClassVar[str] = "meta-sgd"
    Params = MetaSGDParams

    def make_algorithm(self, params: Any) -> MetaAlgorithm:
        """Return Meta-SGD; its first rates are drawn with the adapter's seed."""
        return MetaSGD(**params.loop(), checkpoint=params.checkpoint, seed=params.seed)

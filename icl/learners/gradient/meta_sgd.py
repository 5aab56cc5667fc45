"""Meta-SGD over LoRA factors (Li et al. 2017, arXiv 1707.09835)."""

from __future__ import annotations

from pydantic import Field

from icl.learners.gradient.algorithms import MetaSGD
from icl.learners.gradient.maml import MAMLParams
from icl.learners.gradient.meta_learner import LoraMetaLearner


class MetaSGDParams(MAMLParams):
    """The inner loop; the paper takes one step."""

    inner_steps: int = Field(default=1, ge=0)


class LoraMetaSGD(LoraMetaLearner):
    """A rate is learned for each element of each factor."""

    method = "meta-sgd"
    Params = MetaSGDParams
    Algorithm = MetaSGD

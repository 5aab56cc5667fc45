"""MAML over LoRA factors, through the inner loop (Finn et al. 2017, arXiv 1703.03400)."""

from __future__ import annotations

from icl.learners.gradient.algorithms import MAML
from icl.learners.gradient.meta_learner import LoraMetaLearner, MetaParams


class MAMLParams(MetaParams):
    """The inner loop, and whether to save memory.

    Attributes:
        checkpoint: build each inner step's graph again in the backward sweep instead of keeping
            all of them: the same gradient, more time, and memory that does not grow with steps.
    """

    checkpoint: bool = True


class LoraMAML(LoraMetaLearner):
    """The meta-gradient goes through the inner steps."""

    method = "maml"
    Params = MAMLParams
    Algorithm = MAML

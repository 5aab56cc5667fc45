"""MAML++ over LoRA factors (Antoniou et al. 2019, arXiv 1810.09502)."""

from __future__ import annotations

from pydantic import Field

from icl.learners.gradient.algorithms import MAMLPlusPlus
from icl.learners.gradient.maml import MAMLParams
from icl.learners.gradient.meta_learner import LoraMetaLearner


class MAMLPlusPlusParams(MAMLParams):
    """The inner loop, and what changes while meta-training goes on.

    Attributes:
        inner_steps: of the inner loop, each with its own learned rates.
        anneal: the share of meta-training over which early steps' query losses lose their weight;
            after it the last step's counts alone.
        first_order: the share of meta-training before second derivatives begin.
    """

    inner_steps: int = Field(default=3, ge=1)
    anneal: float = Field(default=0.2, ge=0, le=1)
    first_order: float = Field(default=0.3, ge=0, le=1)


class LoraMAMLPlusPlus(LoraMetaLearner):
    """MAML with learned rates, a loss at each step and late second derivatives.

    Its cosine outer rate is ``training.schedule: cosine``.
    """

    method = "maml++"
    Params = MAMLPlusPlusParams
    Algorithm = MAMLPlusPlus

"""ANIL over LoRA factors (Raghu et al. 2020, arXiv 1909.09157)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from icl.learners.base import Choices
from icl.learners.gradient.algorithms import MAML
from icl.learners.gradient.meta_learner import LoraMetaLearner, MetaParams


class ANILParams(MetaParams):
    """The inner loop: many steps cost little, since the model runs once for all of them."""

    inner_steps: int = Field(default=10, ge=0)
    inner_rate: float = Field(default=0.5, gt=0)


class LoraANIL(LoraMetaLearner):
    """Only a task's head moves in the inner loop; the outer loop moves the LoRA factors.

    The head begins at the label words' rows of the language model's head, so that any number of
    ways shares the factors, and the derivative through the inner loop is taken exactly.
    """

    method = "anil"
    Params = ANILParams
    search: ClassVar[Choices] = {
        **LoraMetaLearner.search,
        "inner_rate": (0.1, 0.5, 1.0, 2.0),
        "inner_steps": (5, 10, 20),
    }
    Algorithm = MAML
    head = "words"
    moves_body = False

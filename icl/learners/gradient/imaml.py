"""Implicit MAML over LoRA factors (Rajeswaran et al. 2019, arXiv 1909.04630)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from icl.learners.base import Choices
from icl.learners.gradient.algorithms import IMAML
from icl.learners.gradient.meta_learner import LoraMetaLearner, MetaParams


class IMAMLParams(MetaParams):
    """The inner loop, the proximal term, and how the implicit equation is solved.

    Attributes:
        strength: lambda, of the proximal term.
        solver_steps: conjugate gradient steps.
    """

    inner_steps: int = Field(default=5, ge=0)
    strength: float = Field(default=2.0, gt=0)
    solver_steps: int = Field(default=3, ge=1)


class LoraIMAML(LoraMetaLearner):
    """The meta-gradient is that of the regularised optimum; the way there leaves no trace."""

    method = "imaml"
    Params = IMAMLParams
    search: ClassVar[Choices] = {
        **LoraMetaLearner.search,
        "inner_steps": (3, 5, 10),
        "strength": (0.5, 2.0, 8.0),
    }
    Algorithm = IMAML

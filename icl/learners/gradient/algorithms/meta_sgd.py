"""Meta-SGD (Li, Zhou, Chen & Li 2017, arXiv 1707.09835)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from icl.learners.gradient.algorithms.algorithm import RATE
from icl.learners.gradient.algorithms.maml import MAML
from icl.learners.gradient.algorithms.problem import Params


@dataclass(frozen=True, slots=True)
class MetaSGD(MAML):
    """MAML that learns a rate for each element: ``theta - alpha o grad L_D(theta)``.

    For one step, ``d/dalpha = -grad L_D(theta) o grad L_Q(theta')``. Rates may become negative.
    They start uniform within a factor of 20, ``U[0.1, 1.9] * rate``; the paper draws U[.005, .1]
    around its own scale.

    Attributes:
        seed: of the first rates.
    """

    seed: int = 0

    def learned(self, start: Params) -> dict[str, Tensor]:
        """Draw the first rates."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            f"{RATE}{name}": (
                self.rate * (0.1 + 1.8 * torch.rand(value.shape, generator=generator))
            ).to(value)
            for name, value in start.items()
        }

    def rates(self, meta: Params, step: int, moved: list[str]) -> dict[str, Tensor]:
        """Return the learned rates, the same at each step."""
        return {name: meta[f"{RATE}{name}"] for name in moved}

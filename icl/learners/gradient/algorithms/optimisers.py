"""Inner optimisers as functions from values to values: plain descent, momentum, Adam.

Each is elementwise, so tasks stay apart, and differentiable everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from icl.learners.gradient.algorithms.problem import Params

_ROOT = 1e-8  # under Adam's root: its derivative at zero is then 1e4, not infinite


@dataclass(frozen=True, slots=True)
class InnerOptimiser:
    """Gradient descent, ``theta - rate * g``; the base of the others."""

    def begin(self, params: Params) -> dict[str, Tensor]:
        """Return the state before the first step."""
        return {}

    def update(
        self, params: Params, gradients: Params, state: Params, rates: Params, step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take one step.

        Args:
            params: what is moved, by name.
            gradients: of the same names and shapes.
            state: what `begin` or the step before returned.
            rates: by name, broadcastable to the parameter's shape.
            step: its number, from 0.

        Returns:
            The moved parameters and the new state.
        """
        return {n: p - rates[n] * gradients[n] for n, p in params.items()}, {}


@dataclass(frozen=True, slots=True)
class Momentum(InnerOptimiser):
    """Heavy-ball descent as in PyTorch: ``m = mu m + g``, ``theta - rate * m``."""

    momentum: float = 0.9

    def begin(self, params: Params) -> dict[str, Tensor]:
        """Start from zero velocity."""
        return {name: torch.zeros_like(p) for name, p in params.items()}

    def update(
        self, params: Params, gradients: Params, state: Params, rates: Params, step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take one step."""
        state = {n: self.momentum * m + gradients[n] for n, m in state.items()}
        return {n: p - rates[n] * state[n] for n, p in params.items()}, state


@dataclass(frozen=True, slots=True)
class Adam(InnerOptimiser):
    """Adam (Kingma & Ba 2015, algorithm 1), made differentiable at zero.

    The step is ``m_hat / (sqrt(v_hat + 1e-8) + 1e-8)``: a constant under the root, without which
    the derivative is infinite wherever a gradient is exactly zero, as LoRA's A at its start is.
    Reptile's inner Adam has ``beta1 = 0``.
    """

    beta1: float = 0.9
    beta2: float = 0.999

    def begin(self, params: Params) -> dict[str, Tensor]:
        """Start from zero moments."""
        return {f"{k}/{n}": torch.zeros_like(p) for k in "mv" for n, p in params.items()}

    def update(
        self, params: Params, gradients: Params, state: Params, rates: Params, step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take one step."""
        moved, new = {}, {}
        for name, p in params.items():
            g = gradients[name]
            new[f"m/{name}"] = m = self.beta1 * state[f"m/{name}"] + (1 - self.beta1) * g
            new[f"v/{name}"] = v = self.beta2 * state[f"v/{name}"] + (1 - self.beta2) * g * g
            mean = m / (1 - self.beta1 ** (step + 1))
            root = (v / (1 - self.beta2 ** (step + 1)) + _ROOT).sqrt()
            moved[name] = p - rates[name] * mean / (root + 1e-8)
        return moved, new


def inner_optimiser(name: str, beta1: float) -> InnerOptimiser:
    """Return an inner optimiser by its name in configs: ``sgd``, ``momentum`` or ``adam``."""
    if name == "adam":
        return Adam(beta1)
    return Momentum(beta1) if name == "momentum" else InnerOptimiser()

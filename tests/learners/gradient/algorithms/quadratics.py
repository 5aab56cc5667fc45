"""Quadratic tasks, whose meta-gradients have closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from icl.learners.gradient.algorithms import Params, Problem

START = {
    "x": torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64),
    "y": torch.tensor([[1.5], [-0.4]], dtype=torch.float64),
}
SIZES = {"x": 3, "y": 2}


def flat(params: Params) -> Tensor:
    """Join parameters with a task axis: shape (tasks, 5)."""
    return torch.cat([params[n].flatten(1) for n in SIZES], 1)


def unflat(vector: Tensor) -> dict[str, Tensor]:
    """Part a vector of 5 into the start's names and shapes."""
    return {
        n: part.reshape(START[n].shape)
        for n, part in zip(SIZES, vector.split(list(SIZES.values())), strict=True)
    }


@dataclass(frozen=True)
class Quadratics:
    """``L_D = (theta-a)' H (theta-a) / 2`` and ``L_Q = (theta-b)' G (theta-b) / 2`` by task."""

    h: Tensor
    a: Tensor
    g: Tensor
    b: Tensor

    @classmethod
    def draw(cls, tasks: int, seed: int) -> Quadratics:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        h, g = (normal(tasks, 5, 5) / 2 for _ in range(2))
        eye = torch.eye(5, dtype=torch.float64) / 2
        return cls(h @ h.mT + eye, normal(tasks, 5), g @ g.mT + eye, normal(tasks, 5))

    def support(self, params: Params) -> Tensor:
        return _half(flat(params) - self.a, self.h)

    def query(self, params: Params) -> Tensor:
        return _half(flat(params) - self.b, self.g)

    def problem(self) -> Problem:
        return Problem(len(self.a), self.support, self.query)


def _half(off: Tensor, matrix: Tensor) -> Tensor:
    return (off[:, None] @ matrix @ off[..., None]).flatten() / 2

"""A loss whose gradients were taken beforehand, as meta-algorithms take theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def with_gradients(
    value: Tensor, gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> Tensor:
    """Return a scalar with a graph to parameters: going back, they get these gradients.

    Args:
        value: the scalar.
        gradients: by the parameters' names and in their shapes; zero where there is none.
        parameters: leaf tensors.
    """
    known = [gradients.get(n, torch.zeros_like(v)).to(v) for n, v in parameters.items()]
    found: Tensor = _Known.apply(value, known, *parameters.values())  # type: ignore[no-untyped-call]
    return found


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, known: list[Tensor], *params: Tensor) -> Tensor:
        ctx.known = known
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grad * value for value in ctx.known)

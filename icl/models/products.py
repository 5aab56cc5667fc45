"""Products with frozen weights by oneDNN, where no graph is wanted.

On CPUs torch gives single-precision products to MKL, which is slower than oneDNN at the sizes of a
packed pass, most of all on processors that are not Intel's (scripts/bench_products.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from icl.models.state import active

_ONEDNN = "_linear_pointwise"  # torch's own way to it, and without a gradient


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` without a graph.

    Args:
        x: shape (..., in).
        weight: shape (out, in).
        bias: shape (out,).
    """
    if _fits(x, weight):
        out: Tensor = getattr(torch.ops.mkldnn, _ONEDNN)(x, weight, bias, "none", [], "")
        return out
    return nn.functional.linear(x, weight, bias)


def hook(module: nn.Module) -> None:
    """Let a frozen linear map take the short way in packed passes without a graph."""
    if type(module) is not nn.Linear:
        return
    own: Callable[..., Tensor] = module.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        wants_graph = torch.is_grad_enabled() and x.requires_grad
        if args or kwargs or wants_graph or active() is None:
            return own(x, *args, **kwargs)
        return product(x, module.weight, module.bias)

    setattr(module, "forward", forward)  # noqa: B010 - mypy knows a method there


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, _ONEDNN)
    )

"""Products with frozen weights by oneDNN, with and without a graph.

On CPUs torch gives single-precision products to MKL, which is slower than oneDNN at the sizes of a
packed pass, most of all on processors that are not Intel's (scripts/bench_products.py). The
gradient of a product with a frozen weight is a product with its transpose, which oneDNN takes as a
view, without a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from icl.models.packed.state import active
from icl.models.weights.devices import is_fetched

_ONEDNN = "_linear_pointwise"  # torch's own way to it, and without a gradient


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` without a graph; see `Product` for one with it.

    Args:
        x: shape (..., in).
        weight: shape (out, in).
        bias: shape (out,).
    """
    if _fits(x, weight):
        out: Tensor = getattr(torch.ops.mkldnn, _ONEDNN)(x, weight, bias, "none", [], "")
        return out
    return nn.functional.linear(x, weight, bias)


class Product(torch.autograd.Function):
    """`product` with a graph: maps (x, weight, bias) as it does; weight and bias are frozen.

    The backward is a `Product` itself, so that it can be differentiated as often as one likes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ weight.T + bias``."""
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient for x, ``grad @ weight``."""
        (weight,) = ctx.saved_tensors
        found: Tensor = Product.apply(grad, weight.T, None)  # type: ignore[no-untyped-call]
        return found, None, None


def hook(module: nn.Module) -> None:
    """Let a frozen linear map take the short way in packed passes."""
    if type(module) is not nn.Linear or is_fetched(module):
        return
    own: Callable[..., Tensor] = module.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or active() is None:
            return own(x, *args, **kwargs)
        if not torch.is_grad_enabled():
            return product(x, module.weight, module.bias)
        if any(p.requires_grad for p in module.parameters()) or not _fits(x, module.weight):
            return own(x)
        out: Tensor = Product.apply(x, module.weight, module.bias)  # type: ignore[no-untyped-call]
        return out

    setattr(module, "forward", forward)  # noqa: B010 - mypy knows a method there


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, _ONEDNN)
    )

"""Root-mean-square norms in few passes over memory (Zhang & Sennrich 2019, arXiv 1910.07467).

``y = x r w`` with ``r = (mean(x^2) + eps)^-1/2``. Models write that as six or more elementwise
operations, each of which reads and writes all states, and automatic differentiation keeps what
every one of them needs. Here forward and backward are written out:
``dx = r (g w - x r^2 mean(g w x))``. The weight is frozen and gets no gradient. A backward that
wants a graph itself (second order) is that of the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from icl.models.packed.state import active

_FLOATS = (torch.float32, torch.float64)


def hook(module: nn.Module) -> None:
    """Let a frozen RMS norm take the short way in packed passes.

    Which modules are RMS norms, and whether their scale is ``w`` (Llama) or ``1 + w`` (Gemma), is
    found by trying: a module that gives other numbers is left alone.
    """
    weight, eps = getattr(module, "weight", None), _eps(module)
    if not type(module).__name__.endswith("RMSNorm") or eps is None or weight is None:
        return
    own: Callable[..., Tensor] = module.forward
    shift = _shift(own, weight, eps)
    if shift is None:
        return

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = args or kwargs or active() is None or x.dtype != weight.dtype
        if plain or x.dtype not in _FLOATS:
            return own(x, *args, **kwargs)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return _run(x, weight, shift, eps)[0]
        out: Tensor = Norm.apply(x, weight, shift, eps)  # type: ignore[no-untyped-call]
        return out

    module.forward = forward


def _eps(module: nn.Module) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return float(found) if isinstance(found, float) else None


@torch.no_grad()
def _shift(own: Callable[..., Tensor], weight: Tensor, eps: float) -> float | None:
    """Return what is added to the weight, 0 or 1, or None where the module is something else."""
    if weight.dim() != 1 or weight.device.type != "cpu":
        return None
    x = torch.linspace(-2, 3, 2 * len(weight)).reshape(2, -1).to(weight.dtype)
    wanted = own(x)
    for shift in (0.0, 1.0):
        if torch.allclose(_run(x, weight, shift, eps)[0], wanted, rtol=1e-5, atol=1e-6):
            return shift
    return None


def _run(x: Tensor, weight: Tensor, shift: float, eps: float) -> tuple[Tensor, Tensor]:
    """Return the norm's output and its factor r, shape (..., 1)."""
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    factor = size.square().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * factor).mul_(weight + shift), factor


class Norm(torch.autograd.Function):
    """Maps (x, weight, what is added to the weight, eps) to the norm's output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shift: float, eps: float) -> Tensor:
        """Return the scaled states, in x's shape."""
        out, factor = _run(x, weight, shift, eps)
        ctx.save_for_backward(x, weight, factor)
        ctx.shift, ctx.eps = shift, eps
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient for x; the weight is frozen."""
        x, weight, factor = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = x * (x.square().mean(-1, keepdim=True) + ctx.eps).rsqrt() * (weight + ctx.shift)
            (found,) = torch.autograd.grad(plain, x, grad, create_graph=True)
            return found, None, None, None
        scaled = grad * (weight + ctx.shift)
        # the dot product of each row with its state, without a product of the full size in memory
        dot = torch.linalg.vecdot(scaled, x).unsqueeze(-1)
        share = dot.mul_(factor.pow(3)).div_(x.shape[-1])
        return scaled.mul_(factor).addcmul_(x, share, value=-1), None, None, None

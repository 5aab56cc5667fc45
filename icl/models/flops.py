"""Floating-point operations of a model, forward and backward, counted from shapes as it runs.

Counted are the products, as by torch's `FlopCounterMode`: one of (n, k) with (k, m) is 2 n k m
operations. Linear maps, LoRA factors and the vocabulary's normaliser are counted by the rows that
go through them, attention by the dense blocks that are run. Backward passes are counted when a
gradient comes by, a second derivative when a gradient of a gradient does; what is recomputed for a
backward is part of it. That is exact in first order (but for soft caps: 3 % too much); with second
derivatives, where attention's share is estimated, totals of tiny models are within 12 % of the
mode's (tests/models/test_flops.py). Norms, activations, softmaxes, DoRA's norms and heads on
embeddings are not counted. Unlike the mode, which looks at every operation, this costs some
microseconds a linear map, so that a run can afford it.

The models are not changed: hooks are there while something is counted, and are removed after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from icl.models.meter import Spent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from icl.models.backbone import Backbone
    from icl.models.base import Model

_FUSED_BACKWARD = 2.5  # scores again, and four gradients, for the two products of the forward
_PLAIN_BACKWARD = 2.0
_SECOND = 6.0  # two gradients for each of four products, and those of the scores' own graph


@dataclass(slots=True)
class Flops:
    """Running totals: of forward passes, and of backward passes."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(model: Model) -> Iterator[Flops | None]:
    """Count what a model computes within the block; None for a model that runs elsewhere.

    Args:
        model: attention that transformers does not route through its interface
            (T5, Bloom) is left out.
    """
    from transformers import AttentionInterface

    from icl.models.adapters.lora import is_linear

    if "weights" not in model.can:
        yield None
        return
    backbone = cast("Backbone", model)
    network = backbone.model
    total = Flops()
    hooks = [
        module.register_forward_hook(_linear(total, name))
        for name, module in network.named_modules()
        if is_linear(module)
    ]
    implementation = str(getattr(network.config, "_attn_implementation", ""))
    attend = AttentionInterface().get(implementation)  # type: ignore[no-untyped-call]
    if attend is not None:
        AttentionInterface.register(implementation, _attention(total, attend))
    normaliser, nested = backbone.normaliser, "normaliser" in vars(backbone)
    setattr(backbone, "normaliser", _normaliser(total, backbone))  # noqa: B010
    try:
        yield total
    finally:
        if nested:  # counted within what is counted
            setattr(backbone, "normaliser", normaliser)  # noqa: B010
        else:
            delattr(backbone, "normaliser")  # the class's own shows again
        if attend is not None:
            AttentionInterface.register(implementation, attend)
        for hook in hooks:
            hook.remove()


@contextmanager
def spending(backbone: Backbone) -> Iterator[Callable[[], Spent]]:
    """Measure a block; yield a function that tells, after it, what the block took."""
    begun, tokens = time.perf_counter(), backbone.meter.computed_tokens
    found: list[Spent] = []
    with counted(backbone) as flops:
        yield lambda: found[0]
    found.append(
        Spent(
            backbone.meter.computed_tokens - tokens,
            time.perf_counter() - begun,
            0.0 if flops is None else float(flops.forward),
        )
    )


def _linear(total: Flops, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Make a hook that counts a linear map, with its LoRA factors."""
    from icl.models.packed.state import active

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        x = args[0]
        if isinstance(output, tuple):  # a router is a linear map that gives more than its product
            output = output[-1]
        rows = x.numel() // max(x.shape[-1], 1)
        own = 2 * rows * x.shape[-1] * output.shape[-1]
        state = active()
        adapter = None if state is None else state.adapter
        factor = None if adapter is None else adapter.factors.get(f"{name}.lora_A")
        rank = 0 if factor is None else factor.shape[-2]
        into, out_of = 2 * rows * x.shape[-1] * rank, 2 * rows * output.shape[-1] * rank
        total.forward += own + into + out_of
        if output.requires_grad:
            back = out_of  # to what is between the factors
            back += own + into if x.requires_grad else 0  # to the input, past weight and factors
            back += into + out_of if factor is not None and factor.requires_grad else 0
            _on_gradient(total, output, back, back)

    return hook


def _on_gradient(
    total: Flops, output: Tensor, flops: float, again: float, graphed: float | None = None
) -> None:
    """Count a backward when the output's gradient is there, and each derivative of that.

    Args:
        total: what is added to.
        output: of some products.
        flops: of their backward.
        again: of the backward of that backward.
        graphed: of their backward where its own graph is wanted; by default `flops`.
    """

    def arrived(gradient: Tensor) -> None:
        if gradient.requires_grad:  # a product of the gradient has a gradient itself
            total.backward += int(flops if graphed is None else graphed)
            _on_gradient(total, gradient, again, again)
        else:
            total.backward += int(flops)

    output.register_hook(arrived)  # type: ignore[no-untyped-call]


def _attention(total: Flops, attend: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an attention function of transformers."""
    from icl.models.packed.state import active

    def run(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *a: Any, **k: Any) -> Any:
        out = attend(module, query, key, value, *a, **k)
        state = active()
        if state is None or not state.layout.blocks:
            pairs = query.shape[0] * query.shape[2] * key.shape[2]
        else:
            window = k.get("sliding_window")
            pairs = sum(_pairs(block, query.shape[1], window) for block in state.layout.blocks)
        flops = 2 * pairs * query.shape[1] * (query.shape[-1] + value.shape[-1])
        total.forward += flops
        if out[0].requires_grad:
            fused = "PackedAttention" in _names(out[0])
            own = _FUSED_BACKWARD if fused else _PLAIN_BACKWARD
            graphed = _PLAIN_BACKWARD + fused  # the plain products are run first
            _on_gradient(total, out[0], own * flops, _SECOND * flops, graphed * flops)
        return out

    return run


def _pairs(block: Any, heads: int, window: int | None) -> int:
    """Return how many (query, key) pairs of a block are computed, padding and hidden ones too."""
    from icl.models.packed.blocks import chunks

    found = 0
    for begin, end in chunks(block, heads, window):
        low, high = block.reachable(begin, end, window)
        found += (end - begin) * (high - low)
    return int(found * block.queries.shape[0])


def _names(result: Tensor) -> str:
    """Name the nodes of the graph next to a result."""
    node = result.grad_fn
    before = [] if node is None else [n for n, _ in node.next_functions if n is not None]
    return " ".join(type(n).__name__ for n in (node, *before) if n is not None)


def _normaliser(total: Flops, backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """Wrap the projection to the whole vocabulary."""
    own = backbone.normaliser

    def run(hidden: Tensor) -> Tensor:
        out = own(hidden)
        flops = 2 * hidden.shape[0] * backbone.head.weight.numel()
        total.forward += flops
        if out.requires_grad and "Normaliser" in _names(out):
            total.forward += flops  # its gradient is taken in the same sweep
        elif out.requires_grad:
            _on_gradient(total, out, flops, flops)
        return out

    return run

"""Packed attention with its own backward: fused kernels both ways, nothing kept but its result.

With the log-sum-exp over *all* keys that a row sees, a block's share of the gradient is what the
fused kernel's backward gives for that block alone: ``P_b = exp(S_b - lse)`` and
``dS_b = P_b * (dO V_b' - rowsum(dO * O))``, where O is the merged result (Dao et al. 2022, arXiv
2205.14135, section B.4, with the blocks of a trie for the tiles of a matrix). So rows' blocks need
no merging in the graph, and of the whole attention only its inputs, result and log-sum-exps are
kept. Where the backward's own graph is wanted (second order), it is that of the plain products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from icl.models.packed import blocks
from icl.models.packed.layout import Block, Layout


class PackedAttention(torch.autograd.Function):
    """`merged` values without a soft cap, for (query, key, value, layout, window)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, window: int | None
    ) -> Tensor:
        """Return the attended values, shape (rows, heads, value size)."""
        out, lse = blocks.merged(query, key, value, layout, window, None)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.window = layout, window
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for query, key and value."""
        query, key, value, out, lse = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain, _ = blocks.merged(query, key, value, ctx.layout, ctx.window, None)
            wanted = [t for t in (query, key, value) if t.requires_grad]
            found = iter(torch.autograd.grad(plain, wanted, grad, create_graph=True))
            own = [next(found) if t.requires_grad else None for t in (query, key, value)]
            return *own, None, None
        totals = [torch.zeros_like(t) for t in (query, key, value)]
        for block in ctx.layout.blocks:
            _add_block(totals, block, ctx.window, query, key, value, out, lse, grad)
        return *totals, None, None


def _add_block(
    totals: list[Tensor],
    block: Block,
    window: int | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad: Tensor,
) -> None:
    """Add one block's share to the gradients for query, key and value."""
    heads, groups = query.shape[1], key.shape[1]
    q, o = (blocks.pick(t, block.queries).transpose(1, 2) for t in (query, out))
    sums = blocks.pick(lse, block.queries).transpose(1, 2)
    g = _real_only(grad, block).transpose(1, 2)
    k, v = (blocks.pick(t, block.keys).transpose(1, 2) for t in (key, value))
    k, v = blocks.each_head(k, heads), blocks.each_head(v, heads)
    bare = block.causal and not block.limits(window)
    mask = None if bare else block.mask(window)
    whole = [(0, q.shape[2])] if bare else blocks.chunks(block, heads, window)
    for begin, end in whole:
        low, high = block.reachable(begin, end, window)
        bias = None if mask is None else blocks.as_bias(mask[:, begin:end, low:high], q.dtype)
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            g[:, :, begin:end], q[:, :, begin:end], k[:, :, low:high], v[:, :, low:high],
            o[:, :, begin:end], sums[:, :, begin:end].contiguous(), 0.0, bare, attn_mask=bias,
            scale=1.0,
        )  # fmt: skip
        spans = (block.queries[:, begin:end], block.keys[:, low:high], block.keys[:, low:high])
        for total, places, part in zip(totals, spans, found, strict=True):
            some = part if part.shape[1] == total.shape[1] else _by_group(part, groups)
            total.index_add_(0, places.flatten(), some.transpose(1, 2).flatten(0, 1))


def _real_only(rows: Tensor, block: Block) -> Tensor:
    """Return ``rows[block.queries]`` with zeros at the padding, so that it adds nothing."""
    if len(block.kept) == block.queries.numel():
        return blocks.pick(rows, block.queries)
    places = block.queries.flatten().index_select(0, block.kept)
    padded = rows.new_zeros(block.queries.numel(), *rows.shape[1:])
    padded.index_copy_(0, block.kept, rows.index_select(0, places))
    return padded.reshape(*block.queries.shape, *rows.shape[1:])


def _by_group(part: Tensor, groups: int) -> Tensor:
    """Add up heads that share their keys: (stack, heads, n, size) -> (stack, groups, n, size)."""
    stack, heads, rows, size = part.shape
    return part.reshape(stack, groups, heads // groups, rows, size).sum(2)

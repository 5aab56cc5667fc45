"""The blocks of a packed trie's attention: each computed densely, merged by their log-sum-exps."""

from __future__ import annotations

import torch
from torch import Tensor

from icl.models.packed.layout import Block, Layout

_SCORES_AT_ONCE = 2**26  # elements of one score matrix: 256 MiB in float32
_FUSED = "_scaled_dot_product_flash_attention_for_cpu"
_BAND = 256  # queries whose keys are cut to the band that causality and a window leave


def merged(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Attend along the paths of a packed trie, block by block, with a graph of plain operations.

    Args:
        query, key, value, layout, window, softcap: as `icl.models.packed.attention.attend`.

    Returns:
        Attended values, shape (rows, heads, value size), and each row's log-sum-exp over its keys,
        shape (rows, heads).
    """
    found = [_run_block(b, query, key, value, window, softcap) for b in layout.blocks]
    heads, size = query.shape[1], value.shape[2]
    nothing = torch.full((1, heads), -torch.inf, device=query.device)
    parts = torch.cat([*(out for out, _ in found), query.new_zeros(1, heads, size)])
    weights = torch.cat([*(lse for _, lse in found), nothing])
    sums = pick(weights, layout.merge)  # (depths, rows, heads)
    if len(layout.merge) == 1:
        return parts.index_select(0, layout.merge[0]), sums[0]
    weight = torch.softmax(sums, dim=0)
    total = parts.index_select(0, layout.merge[0]) * weight[0, ..., None].to(parts.dtype)
    for places, w in zip(layout.merge[1:], weight[1:], strict=True):
        total = total + parts.index_select(0, places) * w[..., None].to(parts.dtype)
    return total, sums.logsumexp(0)


def _run_block(
    block: Block,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Run one block; return its real rows' values (n, heads, size) and log-sum-exps (n, heads)."""
    q = pick(query, block.queries).transpose(1, 2)  # (stack, heads, queries, size)
    k = pick(key, block.keys).transpose(1, 2)
    v = pick(value, block.keys).transpose(1, 2)
    fused = can_fuse(q, v, softcap) and not wants_graph(q, k, v)
    if fused and block.causal and not block.limits(window):
        out, lse = _fused_block(q, k, v, None, causal=True)
        return _real(out, block), _real(lse, block)
    mask = block.mask(window)
    pieces = []
    for begin, end in chunks(block, q.shape[1], window):
        low, high = block.reachable(begin, end, window)
        some = None if mask is None else mask[:, begin:end, low:high]
        part = q[:, :, begin:end], k[:, :, low:high], v[:, :, low:high], some
        pieces.append(_fused_block(*part) if fused else plain_block(*part, softcap))
    out = torch.cat([o for o, _ in pieces], dim=2)
    lse = torch.cat([x for _, x in pieces], dim=2)
    return _real(out, block), _real(lse, block)


def _real(stacked: Tensor, block: Block) -> Tensor:
    """Return the rows of a block's result that are not padding: (stack, heads, queries, ...)."""
    return stacked.transpose(1, 2).flatten(0, 1).index_select(0, block.kept)


def chunks(block: Block, heads: int, window: int | None) -> list[tuple[int, int]]:
    """Cut a block's queries so that score matrices stay small and few hidden keys are computed."""
    stack, queries = block.queries.shape
    step = max(1, _SCORES_AT_ONCE // (stack * heads * block.keys.shape[1]))
    if block.causal or block.limits(window):
        step = min(step, _BAND)
    return [(i, min(i + step, queries)) for i in range(0, queries, step)]


def pick(rows: Tensor, places: Tensor) -> Tensor:
    """Return ``rows[places]`` with a backward that adds in a fixed order.

    The backward of advanced indexing adds with atomics on several threads, so that gradients differ
    from run to run in their last bits; that of `index_select` does not.
    """
    return rows.index_select(0, places.flatten()).reshape(*places.shape, *rows.shape[1:])


def can_fuse(q: Tensor, v: Tensor, softcap: float | None) -> bool:
    """Tell whether torch's fused CPU kernel can run: no soft cap, one head size."""
    return (
        softcap is None
        and q.device.type == "cpu"
        and q.dtype in {torch.float32, torch.float64, torch.bfloat16}
        and q.shape[-1] == v.shape[-1]
        and hasattr(torch.ops.aten, _FUSED)
    )


def wants_graph(*tensors: Tensor) -> bool:
    """Tell whether gradients are to flow to any of some tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision to float32; leave float64, in which gradients are checked, alone."""
    return values if values.dtype == torch.float64 else values.float()


def each_head(t: Tensor, heads: int) -> Tensor:
    """Give each head its keys or values: (stack, groups, n, size) -> (stack, heads, n, size)."""
    groups = t.shape[1]
    if groups == 1:
        return t.expand(-1, heads, -1, -1)  # no copy
    return t if groups == heads else t.repeat_interleave(heads // groups, dim=1)


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask (stack, queries, keys) into what the fused kernels add to scores."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min)[:, None]


def _fused_block(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention of one block by the kernel behind SDPA, which gives the log-sum-exps as well."""
    k, v = each_head(k, q.shape[1]), each_head(v, q.shape[1])
    bias = None if mask is None else as_bias(mask, q.dtype)
    kernel = getattr(torch.ops.aten, _FUSED)
    out, lse = kernel(q, k, v, 0.0, causal, attn_mask=bias, scale=1.0)
    return out, lse


def plain_block(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Attention of one block by matrix products, twice differentiable, softmax in float32."""
    stack, heads, queries, size = q.shape
    groups = k.shape[1]
    scores = q.reshape(stack, groups, -1, size) @ k.transpose(2, 3)
    scores = at_least_float32(scores.reshape(stack, heads, queries, -1))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        # finite, so that a wholly hidden row has weight exp(-huge) = 0 rather than NaN
        scores = scores.masked_fill(~mask[:, None], torch.finfo(torch.float32).min)
    lse = scores.logsumexp(-1)
    shares = (scores - lse[..., None]).exp().to(v.dtype)
    out = shares.reshape(stack, groups, -1, shares.shape[-1]) @ v
    return out.reshape(stack, heads, queries, -1), lse

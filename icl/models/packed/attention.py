"""Trie attention: a transformers attention function that runs a packed trie exactly.

Registered under `NAME` beside transformers' own. While a `Layout` is active it computes each block
densely and merges the blocks of a row by log-sum-exp, which is softmax attention over their union:
``out = sum_b exp(lse_b - lse) out_b`` with ``lse = logsumexp_b lse_b``. Otherwise it is SDPA.

On a CPU the block kernel is torch's fused one, with a backward of our own
(`icl.models.packed.flash`). A backward that wants a graph itself, soft caps and GPUs take plain
products and softmax, which have a double backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from icl.models.packed.ends import KeysSeen
from icl.models.packed.layout import Block, Layout
from icl.models.packed.precision import at_least_float32
from icl.models.packed.state import active

NAME = "icl_trie"
_SCORES_AT_ONCE = 2**26  # elements of one score matrix: 256 MiB in float32
_FUSED = "_scaled_dot_product_flash_attention_for_cpu"
_BAND = 256  # queries whose keys are cut to the band that causality and a window leave


def register() -> str:
    """Register the attention and its mask function with transformers; return their name."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, trie_attention)
    AttentionMaskInterface.register(NAME, _mask)
    return NAME


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Build no mask for a packed trie (its layout is the mask), else SDPA's."""
    from transformers.masking_utils import sdpa_mask

    if active() is not None:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def trie_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend within the active layout.

    Args:
        module: the attention module, as transformers passes it.
        query: shape (1, heads, rows, head size).
        key, value: shape (1, key-value heads, rows, head size).
        attention_mask: unused while a layout is active.
        scaling: factor on the scores, default ``head size ** -0.5``.
        sliding_window: a query sees keys at distances 0 to ``sliding_window - 1``.
        softcap: scores become ``softcap * tanh(scores / softcap)`` (Gemma 2).

    Returns:
        The attended values, shape (1, rows, heads, head size), and None.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    state = active()
    if state is None:
        return _plain(module, query, key, value, attention_mask, scale, softcap, kwargs)
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention sinks and position biases are not packed")
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    if state.catch:
        raise KeysSeen(keys, values)
    if state.given is not None:
        keys, values = state.given
    elif state.memory is not None:
        layer: Any = module.layer_idx
        keys, values = state.memory.extend(layer, keys, values)
    rows = attend(
        query[0].transpose(0, 1) * scale, keys, values, state.layout, sliding_window, softcap
    )
    return rows[None], None


def _plain(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    extra: dict[str, Any],
) -> tuple[Tensor, None]:
    """Attend as the unpacked model does: SDPA, or our own kernel for the soft cap SDPA lacks."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if softcap is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, mask, scaling=scale, **extra
        )
        return out
    if mask is None:  # transformers leaves a purely causal mask out
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = mask.tril(key.shape[2] - query.shape[2])[None, None]
    values, _ = _kernel(query * scale, key, value, mask[:, 0], softcap)
    return values.transpose(1, 2).contiguous(), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attend along the paths of a packed trie.

    Args:
        query: already scaled, shape (rows, heads, head size).
        key, value: shape (keys, key-value heads, head size); as many as rows, or with those of
            earlier passes before them.

    Returns:
        Attended values, shape (rows, heads, value size).
    """
    if _can_fuse(query, key, value, softcap) and _wants_graph(query, key, value):
        from icl.models.packed.flash import PackedAttention

        own: Tensor = PackedAttention.apply(query, key, value, layout, window)  # type: ignore[no-untyped-call]
        return own
    return merged(query, key, value, layout, window, softcap)[0]


def merged(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Return what `attend` does, and each row's log-sum-exp over its keys, shape (rows, heads)."""
    outs, lses = [], []
    for block in layout.blocks:
        out, lse = _run_block(block, query, key, value, window, softcap)
        outs.append(out)
        lses.append(lse)
    heads, size = query.shape[1], value.shape[2]
    outs.append(query.new_zeros(1, heads, size))
    lses.append(torch.full((1, heads), -torch.inf, device=query.device))
    parts, weights = torch.cat(outs), torch.cat(lses)
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
    fused = _can_fuse(q, k, v, softcap) and not _wants_graph(q, k, v)
    if fused and block.causal and not block.limits(window):
        out, lse = _fused(q, k, v, None, causal=True)
        return _real(out, block), _real(lse, block)
    mask = block.mask(window)
    pieces = []
    for begin, end in chunks(block, q.shape[1], window):
        low, high = block.reachable(begin, end, window)
        some = None if mask is None else mask[:, begin:end, low:high]
        part = q[:, :, begin:end], k[:, :, low:high], v[:, :, low:high], some
        pieces.append(_fused(*part) if fused else _kernel(*part, softcap))
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


def _can_fuse(q: Tensor, k: Tensor, v: Tensor, softcap: float | None) -> bool:
    """Tell whether torch's fused CPU kernel can run: no soft cap, one head size."""
    return (
        softcap is None
        and q.device.type == "cpu"
        and q.dtype in {torch.float32, torch.float64, torch.bfloat16}
        and q.shape[-1] == v.shape[-1]
        and hasattr(torch.ops.aten, _FUSED)
    )


def _wants_graph(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


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


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention of one block by the kernel behind SDPA, which gives the log-sum-exps as well."""
    k, v = each_head(k, q.shape[1]), each_head(v, q.shape[1])
    bias = None if mask is None else as_bias(mask, q.dtype)
    kernel = getattr(torch.ops.aten, _FUSED)
    out, lse = kernel(q, k, v, 0.0, causal, attn_mask=bias, scale=1.0)
    return out, lse


def _kernel(
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

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

from icl.models.packed import blocks
from icl.models.packed.flash import PackedAttention
from icl.models.packed.last_layer import KeysSeen
from icl.models.packed.layout import Layout
from icl.models.packed.state import active

NAME = "icl_trie"


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
    values, _ = blocks.plain_block(query * scale, key, value, mask[:, 0], softcap)
    return values.transpose(1, 2).contiguous(), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    window: int | None,
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
    if blocks.can_fuse(query, value, softcap) and blocks.wants_graph(query, key, value):
        own: Tensor = PackedAttention.apply(query, key, value, layout, window)  # type: ignore[no-untyped-call]
        return own
    return blocks.merged(query, key, value, layout, window, softcap)[0]

"""Poolings: one vector out of the states of a text's tokens.

The ``last`` one's; their ``mean`` (BOS left out; [CLS] and [SEP] of encoders taken in, as
sentence-transformers does); ``weighted-mean``, token i of n weighing i, since a causal model's
later states have read more (SGPT, Muennighoff 2022, arXiv 2202.08904); ``cls``, the first one's;
``max``, each number's greatest; ``mean-sqrt``, their sum over the root of their count; ``prompt``,
the state that predicts the next word after ``This sentence : "..." means in one word:"``
(PromptEOL, Jiang et al. 2023, arXiv 2307.16645), or that of the mask in ``... means [MASK].`` for
encoders (PromptBERT, Jiang et al. 2022, arXiv 2201.04337).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from icl.models.packed.trie import IntArray

Pooling = Literal["last", "mean", "weighted-mean", "cls", "max", "mean-sqrt", "prompt"]


def pool(
    way: Pooling,
    states: Tensor,
    real: Tensor,
    rows: Sequence[IntArray],
    *,
    bos: int | None,
    mask: int | None,
) -> Tensor:
    """Pool padded states, shape (texts, length, width), to (texts, width).

    Args:
        way: see above.
        states: float32.
        real: which of them are no padding, shape (texts, length).
        rows: the encoded texts.
        bos: a first token that means leave out; None for none.
        mask: the token whose state ``prompt`` takes; None for the last one.
    """
    each = torch.arange(len(states), device=states.device)
    if way == "cls":
        return states[:, 0]
    if way == "max":
        return states.masked_fill(~real[:, :, None], float("-inf")).amax(1)
    if way == "last" or (way == "prompt" and mask is None):
        return states[each, real.sum(1) - 1]
    if way == "prompt":
        at = [int(np.flatnonzero(row == mask)[-1]) if mask in row else 0 for row in rows]
        return states[each, torch.tensor(at, device=states.device)]
    weights = real.float()
    for i, row in enumerate(rows):
        if len(row) > 1 and row[0] == bos:  # a lone BOS stands for an empty text
            weights[i, 0] = 0.0
    if way == "weighted-mean":
        weights = weights * weights.cumsum(1)
    total = weights.sum(1, keepdim=True)
    weights = weights / (total.sqrt() if way == "mean-sqrt" else total)
    return (weights[:, None, :] @ states)[:, 0]

"""Rows that are read, and their attention: a layout for those rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icl.models.packed.layout import Block, Layout
from icl.models.packed.trie import PackedTrie

_WORTH = 4  # keys looked up for ends, padding included, for each packed row


@dataclass(frozen=True, slots=True)
class Ends:
    """Some rows of a packed trie, and their attention to the rows on their paths.

    Attributes:
        rows: in ascending order, shape (ends,).
        layout: the attention of these rows alone.
    """

    rows: Tensor
    layout: Layout

    def on(self, device: torch.device) -> Ends:
        """Return the same on another device."""
        return Ends(self.rows.to(device), self.layout.on(device))

    def places(self, rows: Tensor) -> Tensor:
        """Return where some of the rows stand among these."""
        return torch.searchsorted(self.rows, rows)

    def by_task(self, tasks: Sequence[int]) -> tuple[int, ...]:
        """Return how many of the rows belong to each task."""
        if not tasks:
            return ()
        bounds = torch.tensor(tasks, device=self.rows.device).cumsum(0)
        below = torch.searchsorted(self.rows, bounds).tolist()
        return tuple(b - a for a, b in zip([0, *below], below, strict=False))


def lay_out_ends(trie: PackedTrie, rows: Tensor) -> Ends | None:
    """Lay out the attention of some rows, or return None where looking up their keys costs more.

    Args:
        trie: the packed tokens.
        rows: of the trie, on the model's device, in any order and more than once.
    """
    ends = torch.unique(rows)
    wanted = ends.cpu().numpy()
    depth = int(trie.positions[wanted].max()) + 1  # a row's position counts the rows before it
    if depth * len(wanted) > _WORTH * len(trie.tokens):
        return None
    keys = np.zeros((len(wanted), depth), dtype=np.int64)
    filled = np.zeros(len(wanted), dtype=np.int64)
    for s in trie.segments:  # parents before children
        low, high = np.searchsorted(wanted, [s.start, s.end])
        for i in range(low, high):
            count = min(s.length, int(wanted[i]) + 1 - s.start)
            keys[i, filled[i] : filled[i] + count] = np.arange(s.start, s.start + count)
            filled[i] += count
    real = np.arange(depth) < filled[:, None]
    keys = np.where(real, keys, keys[:, :1])
    device = rows.device
    positions = torch.from_numpy(trie.positions).to(device)
    places = torch.from_numpy(keys).to(device)
    one_each = torch.arange(len(wanted), device=device)
    block = Block.of(
        one_each[:, None],
        places,
        positions[ends][:, None],
        positions[places],
        torch.ones_like(one_each),
        torch.from_numpy(real).to(device),
    )
    tokens = torch.from_numpy(trie.tokens).to(device)[ends][None]
    spans = None if trie.spans is None else torch.from_numpy(trie.spans[wanted])[None].to(device)
    return Ends(ends, Layout(tokens, positions[ends][None], (block,), one_each[None], spans))

"""The last layer for the rows that are read, not for all rows.

Scores are read where a label begins: one row in forty. Above the last layer's keys and values
nothing else reaches them, so queries, feed-forward and output are computed for those rows alone,
forward and backward. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from icl.models.packed.layout import Block, Layout
from icl.models.packed.trie import PackedTrie

if TYPE_CHECKING:
    from icl.models.packed.state import ForwardState

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
    block = Block(
        queries=one_each[:, None],
        keys=places,
        query_positions=positions[ends][:, None],
        key_positions=positions[places],
        causal=False,
        real_keys=None if bool(real.all()) else torch.from_numpy(real).to(device),
        reach=depth - 1,
        kept=one_each,
    )
    tokens = torch.from_numpy(trie.tokens).to(device)[ends][None]
    spans = None if trie.spans is None else torch.from_numpy(trie.spans[wanted])[None].to(device)
    return Ends(ends, Layout(tokens, positions[ends][None], (block,), one_each[None], spans))


class KeysSeen(Exception):  # noqa: N818 - no error: it ends a layer once its keys are known
    """Carries a layer's keys and values out of its attention, each (rows, groups, size)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values


def run_for_ends(
    forward: Callable[..., Any],
    state: ForwardState,
    hidden: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a decoder layer for its ends: once as far as keys and values, then for few rows.

    Args:
        forward: the layer.
        state: the pass, with `ends`.
        hidden: what enters the layer, shape (1, rows, width).
        args, kwargs: what else the model passes to it; tensors with a row's entry each are cut.

    Returns:
        What the layer gives, of which only the ends' rows mean anything: some models want as many
        as went in.
    """
    ends = state.ends
    assert ends is not None
    count = hidden.shape[1]
    few = [_cut(value, ends.rows, count) for value in args]
    named = {name: _cut(value, ends.rows, count) for name, value in kwargs.items()}
    if any(value is _UNKNOWN for value in (*few, *named.values())):
        return forward(hidden, *args, **kwargs)
    state.catch = True
    try:
        forward(hidden, *args, **kwargs)
    except KeysSeen as seen:
        state.given = (seen.keys, seen.values)
    finally:
        state.catch = False
    assert state.given is not None
    state.layout, state.tasks = ends.layout, ends.by_task(state.tasks)
    out = forward(hidden.index_select(1, ends.rows), *few, **named)
    states = out[0] if isinstance(out, tuple) else out
    whole = hidden.detach().index_copy(1, ends.rows, states)
    return (whole, *out[1:]) if isinstance(out, tuple) else whole


_UNKNOWN = object()


def _cut(value: Any, rows: Tensor, count: int) -> Any:
    """Keep some rows of what has `count` of them along its second dimension."""
    if isinstance(value, Tensor) and value.dim() > 1:
        return value.index_select(1, rows) if value.shape[1] == count else _UNKNOWN
    if isinstance(value, tuple):
        parts = tuple(_cut(part, rows, count) for part in value)
        return _UNKNOWN if any(part is _UNKNOWN for part in parts) else parts
    return value

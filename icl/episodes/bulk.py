"""Many draws at once: the same episodes as one by one, an order of magnitude sooner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl.episodes.cell import Cell, Draw, Side
from icl.episodes.pool import Ints

Words = NDArray[np.uint64]
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def draw_many(
    cell: Cell, eligible: Sequence[int], words: Words, ways: int, queries: int, shots: int
) -> list[Draw | None]:
    """Draw balanced episodes of one cell, in step with `Cell.draw` word for word.

    Args:
        cell: where the examples come from.
        eligible: the classes to choose from.
        words: the first words of each episode's stream, shape (episodes, `words_needed`).
        ways: classes in an episode.
        queries: query examples in an episode.
        shots: support examples a class.

    Returns:
        A draw for each episode; None where a group of copies came up twice, which only the
        road one by one can resolve.
    """
    count = len(words)
    sizes = np.full((count, 1), len(eligible))
    chosen = np.asarray(eligible)[_places(words[:, None, :ways], sizes)[0][:, 0]]
    turn = _places(words[:, None, ways : 2 * ways], np.full((count, 1), ways))[0][:, 0]
    order = np.take_along_axis(chosen, turn, axis=1)

    each, more = divmod(queries, ways)
    asked = words[:, 2 * ways : 2 * ways + queries]
    given = words[:, 2 * ways + queries :].reshape(count, shots, ways).transpose(0, 2, 1)
    edge = more * (each + 1)
    parts = []
    for slots, per_class, part in (
        (slice(0, more), each + 1, asked[:, :edge]),
        (slice(more, ways), each, asked[:, edge:]),
    ):
        classes = chosen[:, slots]
        if classes.shape[1]:
            ask = part.reshape(count, classes.shape[1], per_class)
            parts.append(_draw_slots(cell, classes, ask, given[:, slots]))
    query, support = (
        [np.concatenate(values, axis=1) for values in zip(*side, strict=True)]
        for side in zip(*parts, strict=True)
    )
    groups = np.sort(np.concatenate([query[2], support[2]], axis=1), axis=1)
    clash = (np.diff(groups, axis=1) == 0).any(axis=1).tolist()
    drawn = zip(clash, order.tolist(), _in_order(query), _in_order(support), strict=True)
    return [None if c else Draw(tuple(o), tuple(q), tuple(s)) for c, o, q, s in drawn]


def words_needed(ways: int, queries: int, shots: int) -> int:
    """Return how many words a balanced episode takes from its stream."""
    return 2 * ways + queries + ways * shots


_Picks = Sequence[NDArray[Any]]  # keys, rows, groups: (episodes, picks) each


def _draw_slots(cell: Cell, classes: Ints, ask: Words, give: Words) -> tuple[_Picks, _Picks]:
    """Draw for the slots of episodes that give equally many queries.

    Args:
        cell: where the examples come from.
        classes: shape (episodes, slots).
        ask: words for the queries, shape (episodes, slots, queries).
        give: words for the support, shape (episodes, slots, shots).
    """
    cut = ask.shape[2]
    if cell.within:
        both = _picks(cell.query, classes, np.concatenate([ask, give], axis=2))
        return _flat(both, slice(0, cut)), _flat(both, slice(cut, None))
    whole = slice(None)
    return (
        _flat(_picks(cell.query, classes, ask), whole),
        _flat(_picks(cell.support, classes, give), whole),
    )


def _picks(side: Side, classes: Ints, words: Words) -> _Picks:
    starts = side.starts[classes]
    places, keys = _places(words, side.starts[classes + 1] - starts)
    places += starts[..., None]
    return keys, side.rows[places], side.groups[places]


def _flat(picks: _Picks, part: slice) -> _Picks:
    return [values[..., part].reshape(len(values), -1) for values in picks]


def _in_order(picks: _Picks) -> list[list[int]]:
    """Sort the rows of each episode by their keys."""
    keys, rows, _ = picks
    order = np.argsort(keys, axis=1, kind="stable")
    in_order: list[list[int]] = np.take_along_axis(rows, order, axis=1).tolist()
    return in_order


def _places(words: Words, sizes: Ints) -> tuple[Ints, Words]:
    """Draw without replacement as `Urn` does, for many urns in step.

    Args:
        words: shape (episodes, urns, draws).
        sizes: numbers in each urn, shape (episodes, urns).

    Returns:
        The numbers drawn and their sort keys, shapes (episodes, urns, draws).
    """
    draws = words.shape[2]
    drawn = np.empty(words.shape, dtype=np.int64)
    keys = np.empty(words.shape, dtype=np.uint64)
    moved_to: list[Ints] = []
    moved: list[Ints] = []
    for step in range(draws):
        bound = (sizes - step).astype(np.uint64)
        word = words[..., step]
        # The high half of a 64 x 64-bit product, for bounds below 2**32.
        high = ((word >> _HALF) * bound + ((word & _LOW) * bound >> _HALF)) >> _HALF
        keys[..., step] = word * bound
        there = high.astype(np.int64) + step
        value, own = there.copy(), np.full(there.shape, step)
        for place, content in zip(moved_to, moved, strict=True):
            np.copyto(value, content, where=place == there)
            np.copyto(own, content, where=place == step)
        moved_to.append(there)
        moved.append(own)
        drawn[..., step] = value
    return drawn, keys

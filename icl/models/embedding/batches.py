"""Batches of encoded texts: of equal lengths for a CPU, of bounded size for a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from icl.models.packed.trie import IntArray

_TOKENS_AT_ONCE = 8192
_PADDED_TOKENS_AT_ONCE = 2048  # an encoder's batch stays in a processor's cache
_GRAPHED_TOKENS_AT_ONCE = 768  # what a backward needs stays in the cache as well
_PADDING = 64  # tokens of a pass, which cost about what a pass costs beside its arithmetic
_STEP = 4  # on a CPU, lengths are made up to multiples of it


def made_up(length: int) -> int:
    """Return the length to which a text of so many tokens is made up on a CPU.

    >>> made_up(0), made_up(4), made_up(5)
    (4, 4, 8)
    """
    return -(-max(length, 1) // _STEP) * _STEP


def by_length(rows: Sequence[IntArray]) -> Iterator[tuple[list[int], int]]:
    """Cut texts into passes of equal lengths; yield some texts and what they are made up to."""
    alike: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(made_up(len(row)), []).append(i)
    for length, group in sorted(alike.items(), reverse=True):
        height = max(1, _PADDED_TOKENS_AT_ONCE // length)
        for at in range(0, len(group), height):
            yield group[at : at + height], length


def of_similar_length(rows: Sequence[IntArray]) -> list[list[int]]:
    """Cut texts, longest first, into padded passes for a graph on a CPU, each with little padding.

    >>> of_similar_length([range(n) for n in (40, 200, 44, 190)])
    [[1, 3], [2, 0]]
    """
    groups: list[list[int]] = []
    padding, longest = 0, 0
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        padding += longest - len(rows[i])
        full = not groups or (len(groups[-1]) + 1) * longest > _GRAPHED_TOKENS_AT_ONCE
        if full or padding > _PADDING:
            groups.append([])
            padding, longest = 0, len(rows[i])
        groups[-1].append(i)
    return groups


def of_bounded_size(rows: Sequence[IntArray], *, padded: bool) -> Iterator[list[int]]:
    """Cut texts, longest first, into batches of bounded size; the longest shows at once if it fits.

    Args:
        rows: the encoded texts.
        padded: whether padding counts.
    """
    limit = _PADDED_TOKENS_AT_ONCE if padded else _TOKENS_AT_ONCE
    batch: list[int] = []
    used = 0
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        cost = len(rows[batch[0]] if padded and batch else rows[i])
        if batch and used + cost > limit:
            yield batch
            batch, used, cost = [], 0, len(rows[i])
        batch.append(i)
        used += cost
    if batch:
        yield batch

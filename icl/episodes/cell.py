"""`Cell`: drawing row numbers from a pair of pools, without copies on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.episodes.pool import Ints, Pool, copy_groups
from icl.episodes.stream import Stream


@dataclass(frozen=True, slots=True)
class _Side:
    """The candidates of one pool: per class, the rows that stand for distinct groups of copies."""

    rows: tuple[memoryview, ...]
    groups: tuple[memoryview, ...]

    def size(self, label: int) -> int:
        return len(self.rows[label])

    def take(self, stream: Stream, label: int, used: set[int]) -> int:
        """Draw a row of a class whose group is not in `used` yet, and put it there."""
        groups = self.groups[label]
        count = len(groups)
        while True:
            place = stream.below(count)
            group = groups[place]
            if group not in used:
                used.add(group)
                row: int = self.rows[label][place]
                return row


@dataclass(frozen=True, slots=True)
class Draw:
    """Row numbers of an episode.

    Attributes:
        query: (class, row in the query pool's task) pairs, in the episode's order.
        support: (class, row in the support pool's task) pairs, in the episode's order.
    """

    query: tuple[tuple[int, int], ...]
    support: tuple[tuple[int, int], ...]


class Cell:
    """One task with a support and a query language (often the same): where episodes come from.

    Copies are found over both pools together, so that no text, id or parallel id can stand in
    the support and the query set, whatever its language. Each example of an episode, on either
    side, comes from another group of copies.
    """

    def __init__(self, support: Pool, query: Pool) -> None:
        self.support_task = support.task
        self.query_task = query.task
        self.conflicting = query.conflicting
        self.labels = query.task.labels if query.task.kind == "classification" else ("",)
        count = len(self.labels)
        if support is query:
            groups = copy_groups(query.keys)
            self._query = self._support = _side(query, groups, query.classes, count)
            self._mixed = _mixed(groups, query.classes, count)
        else:
            # The support task may list its labels in another order; use the query task's.
            place = {name: column for column, name in enumerate(self.labels)}
            names = support.task.labels if query.task.kind == "classification" else ("",)
            recode = np.array([place.get(name, -1) for name in names], dtype=np.int64)
            classes = recode[support.classes]
            known = classes >= 0
            both = np.concatenate([query.classes, classes[known]])
            shared = copy_groups(np.concatenate([query.keys, support.keys[known]]))
            self._query = _side(query, shared[: len(query.rows)], query.classes, count)
            self._support = _side(
                support, shared[len(query.rows) :], classes[known], count, support.rows[known]
            )
            self._mixed = _mixed(shared, both, count)
        self._overlap = tuple(
            len(np.intersect1d(np.asarray(a), np.asarray(b)))
            for a, b in zip(self._query.groups, self._support.groups, strict=True)
        )

    def sizes(self, label: int) -> tuple[int, int]:
        """Return how many distinct examples a class has for support and for query."""
        return self._support.size(label), self._query.size(label)

    def can_give(self, label: int, support: int, query: int, episode: int) -> bool:
        """Tell whether a class always suffices in an episode of at most `episode` examples.

        The bound is safe for any draw of the other classes: each of them can take away at most
        one of the groups that this class shares with others.
        """
        lost = min(self._mixed[label], episode)
        taken = min(query, self._overlap[label])
        return (
            self._query.size(label) - lost >= query
            and self._support.size(label) - lost - taken >= support
        )

    def present(self) -> list[int]:
        """Return the classes that have an example on both sides."""
        return [c for c in range(len(self.labels)) if all(self.sizes(c))]

    def draw(
        self, stream: Stream, queries: Sequence[tuple[int, int]], supports: Sequence[Sequence[int]]
    ) -> Draw:
        """Draw the rows of an episode.

        Args:
            stream: where the randomness comes from.
            queries: (class, count) pairs.
            supports: for each round the classes that get one more example. What a round draws
                does not depend on the rounds after it, so an episode of fewer rounds has a part
                of the support of one with more, in the same relative order.
        """
        used: set[int] = set()
        query = [
            (label, self._query.take(stream, label, used))
            for label, count in queries
            for _ in range(count)
        ]
        query = stream.shuffled(query)
        support = [
            (stream.word(), label, self._support.take(stream, label, used))
            for labels in supports
            for label in labels
        ]
        support.sort()
        return Draw(tuple(query), tuple((label, row) for _, label, row in support))


def _side(pool: Pool, groups: Ints, classes: Ints, count: int, rows: Ints | None = None) -> _Side:
    rows = pool.rows if rows is None else rows
    order = np.lexsort((rows, groups, classes))
    classes, groups, rows = classes[order], groups[order], rows[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (classes[1:] != classes[:-1]) | (groups[1:] != groups[:-1])
    classes, groups, rows = classes[first], groups[first], rows[first]
    # Group numbers are arbitrary: put each class back into the order of the rows.
    order = np.lexsort((rows, classes))
    classes, groups, rows = classes[order], groups[order], rows[order]
    edges = np.searchsorted(classes, np.arange(count + 1))
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return _Side(tuple(rows[p].data for p in parts), tuple(groups[p].data for p in parts))


def _mixed(groups: Ints, classes: Ints, count: int) -> tuple[int, ...]:
    """Count, for each class, the groups of copies that also stand under another class."""
    pairs = np.unique(groups * count + classes)
    _, node, members = np.unique(pairs // count, return_inverse=True, return_counts=True)
    mixed = (pairs % count)[members[node] > 1]
    return tuple(int(n) for n in np.bincount(mixed, minlength=count))

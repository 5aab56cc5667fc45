"""`Cell`: drawing row numbers from a pair of pools, without copies on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.episodes.near import near_pairs
from icl.episodes.pool import Ints, Pool, copy_groups
from icl.episodes.reading import in_order
from icl.episodes.stream import Stream, Urn


@dataclass(frozen=True, slots=True)
class Side:
    """The candidates of one pool, class by class: one row for each distinct group of copies.

    Attributes:
        rows: row numbers in the task's examples, shape (candidates,), class by class.
        groups: the group of copies of each candidate, shape (candidates,).
        starts: where each class begins, shape (classes + 1,).
    """

    rows: Ints
    groups: Ints
    starts: Ints

    def size(self, label: int) -> int:
        """Return how many candidates a class has."""
        return int(self.starts[label + 1] - self.starts[label])


class _Hand:
    """Draws from one side during one episode."""

    def __init__(self, side: Side, used: set[int]) -> None:
        self._rows, self._groups = side.rows.data, side.groups.data
        self._starts = side.starts.data
        self._used = used
        self._urns: dict[int, Urn] = {}

    def take(self, stream: Stream, label: int) -> tuple[int, int]:
        """Draw a candidate of a class whose group is not in use: (sort key, row)."""
        start: int = self._starts[label]
        urn = self._urns.get(label)
        if urn is None:
            urn = self._urns[label] = Urn(self._starts[label + 1] - start)
        while True:
            place, key = urn.take(stream)
            group = self._groups[start + place]
            if group not in self._used:
                self._used.add(group)
                return key, self._rows[start + place]


@dataclass(frozen=True, slots=True)
class Draw:
    """What an episode holds, in numbers.

    Attributes:
        classes: places in the task's strata, in the order of the episode's labels.
        query: row numbers in the query task's examples, in the episode's order.
        support: row numbers in the support task's examples, in the episode's order.
        pool: likewise, further ones.
    """

    classes: tuple[int, ...]
    query: tuple[int, ...]
    support: tuple[int, ...]
    pool: tuple[int, ...] = ()


class Cell:
    """One task with a support and a query language (often the same): where episodes come from.

    Copies are found over both pools together, so that no text, id or parallel id can stand in
    the support and the query set, whatever its language. Each example of an episode, on either
    side, comes from another group of copies.

    Attributes:
        strata: the query task's; a class is a place in it.
        query, support: the candidates of each side.
        within: whether both sides draw from the same pool.
    """

    def __init__(self, support: Pool, query: Pool, near: float | None = None) -> None:
        self.support_task = support.task
        self.query_task = query.task
        self.within = support is query
        self.strata = query.task.strata
        count = len(self.strata)
        if self.within:
            groups = copy_groups(query.keys, _near(near, (query, query.rows)))
            self.query = self.support = _side(query.rows, groups, query.classes, count)
            self._mixed = _mixed(groups, query.classes, count)
        else:
            # The support task may list its labels in another order; use the query task's.
            place = {name: column for column, name in enumerate(self.strata)}
            recode = np.array([place.get(n, -1) for n in support.task.strata], dtype=np.int64)
            classes = recode[support.classes]
            known = classes >= 0
            both = np.concatenate([query.classes, classes[known]])
            groups = copy_groups(
                np.concatenate([query.keys, support.keys[known]]),
                _near(near, (query, query.rows), (support, support.rows[known])),
            )
            edge = len(query.rows)
            self.query = _side(query.rows, groups[:edge], query.classes, count)
            self.support = _side(support.rows[known], groups[edge:], classes[known], count)
            self._mixed = _mixed(groups, both, count)
        self._overlap = tuple(self._shared(label) for label in range(count))

    def _shared(self, label: int) -> int:
        """Count the groups of a class that both sides can draw."""
        if self.within:
            return self.query.size(label)
        ours, theirs = (
            side.groups[side.starts[label] : side.starts[label + 1]]
            for side in (self.query, self.support)
        )
        return len(np.intersect1d(ours, theirs))

    def sizes(self, label: int) -> tuple[int, int]:
        """Return how many distinct examples a class has for support and for query."""
        return self.support.size(label), self.query.size(label)

    def room(self, label: int, query: int, episode: int) -> tuple[int, int]:
        """Return how many examples a class can always give: (support, query).

        The bound is safe for any draw of the other classes: each of them can take away at most
        one of the groups that this class shares with others.

        Args:
            label: the class.
            query: how many queries it gives before it gives support.
            episode: the most examples that an episode may have, over all classes.
        """
        lost = min(self._mixed[label], episode)
        taken = min(query, self._overlap[label])
        return self.support.size(label) - lost - taken, self.query.size(label) - lost

    def present(self) -> list[int]:
        """Return the classes that have an example on both sides."""
        return [c for c in range(len(self.strata)) if all(self.sizes(c))]

    def draw(
        self,
        stream: Stream,
        order: Sequence[int],
        queries: Sequence[tuple[int, int]],
        supports: Sequence[int],
        pool: Sequence[int] = (),
        keep: int | None = None,
    ) -> Draw:
        """Draw the rows of an episode.

        Args:
            stream: where the randomness comes from.
            order: the classes in the order of the episode's labels.
            queries: (class, count) pairs.
            supports: the class of each support example, one after another. What a draw takes
                does not depend on the draws after it, so an episode with the first part of a
                sequence has a part of the support of the whole, in the same relative order.
            pool: the class of each further example, drawn after all of `supports`.
            keep: how many of `supports` make the episode's support; None: all.
        """
        used: set[int] = set()
        ask = _Hand(self.query, used)
        show = ask if self.within else _Hand(self.support, used)
        query = [ask.take(stream, label) for label, count in queries for _ in range(count)]
        support = [show.take(stream, label) for label in supports]
        more = [show.take(stream, label) for label in pool]
        parts = (sorted(query), sorted(support[:keep]), sorted(more))
        return Draw(tuple(order), *(tuple(row for _, row in part) for part in parts))


def _near(threshold: float | None, *parts: tuple[Pool, Ints]) -> Ints | None:
    """Find the near-duplicates among some rows of pools, by place in their concatenation."""
    if threshold is None:
        return None
    texts = [
        example.text
        for pool, rows in parts
        for example in in_order(pool.task.examples, rows.tolist())
    ]
    return near_pairs(texts, threshold)


def _side(rows: Ints, groups: Ints, classes: Ints, count: int) -> Side:
    """Sort by class, keep the first row of each group of copies in a class."""
    order = np.lexsort((rows, groups, classes))
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (np.diff(classes[order]) != 0) | (np.diff(groups[order]) != 0)
    # Group numbers are arbitrary: keep each class in the order of its rows.
    kept = np.sort(order[first])
    kept = kept[np.argsort(classes[kept], kind="stable")]
    starts = np.searchsorted(classes[kept], np.arange(count + 1))
    return Side(rows[kept], groups[kept], starts.astype(np.int64))


def _mixed(groups: Ints, classes: Ints, count: int) -> tuple[int, ...]:
    """Count, for each class, the groups of copies that also stand under another class."""
    pairs = np.unique(groups * count + classes)
    _, node, members = np.unique(pairs // count, return_inverse=True, return_counts=True)
    mixed = (pairs % count)[members[node] > 1]
    return tuple(int(n) for n in np.bincount(mixed, minlength=count))

"""`Pool`: what a split may draw from a task in one language, as integers."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from icl.episodes.splits import claimed_elsewhere
from icl.errors import IclError
from icl.tasks.loaded import Task, TaskFamily
from icl.tasks.task import Example, normalise

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pool:
    """The usable examples of a (split, task, language), by row number in `task.examples`.

    Only integers are kept, so a task whose examples lie in a memory-mapped file stays there.

    Attributes:
        task: the task in its language.
        rows: row numbers in `task.examples`, ascending, shape (usable,).
        classes: for each usable row the place of its stratum in `task.strata`, shape (usable,).
        keys: hashes of id, parallel id and normalised text, shape (usable, 3). Two examples that
            share a key in the same column are copies of each other. A chance collision of 64-bit
            hashes can only part two examples that could have met, never let copies meet.
        conflicting: how many examples were dropped because their text carries two labels.
        domains: for each usable row the place of its domain in `domain_names`; all 0 where
            domains play no part.
        domain_names: in the order of their first example.
    """

    task: Task
    rows: Ints
    classes: Ints
    keys: Keys
    conflicting: int
    domains: Ints
    domain_names: tuple[str, ...]

    def inside(self, domain: str) -> Pool:
        """Return the part that belongs to a domain."""
        return self.part(self.domains == self._domain(domain))

    def outside(self, domain: str) -> Pool:
        """Return the part that belongs to other domains."""
        return self.part(self.domains != self._domain(domain))

    def _domain(self, name: str) -> int:
        return self.domain_names.index(name) if name in self.domain_names else -1

    def part(self, keep: NDArray[np.bool_]) -> Pool:
        """Return the part at the marked rows."""
        return replace(
            self,
            rows=self.rows[keep],
            classes=self.classes[keep],
            keys=self.keys[keep],
            domains=self.domains[keep],
        )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _keys(example: Example) -> bytes:
    identity = _hash(example.id)
    same = example.parallel_id == example.id
    parallel = identity if same else _hash(example.parallel_id)
    return identity + parallel + _hash(normalise(example.text))


def build_pool(
    family: TaskFamily,
    split: str,
    task_name: str,
    language: str,
    domains: bool = False,
) -> Pool:
    """Read a task once, row by row, and keep the numbers that drawing needs.

    Raises:
        IclError: an example carries a label that the task does not have, names no domain where
            `domains` are asked for, or may be drawn from another split although the family
            promises disjoint classes or ids.
    """
    task = family.load(task_name, language)
    allows = family.split(split).allows
    column = {stratum: place for place, stratum in enumerate(task.strata)}
    rows, classes = array("q"), array("q")
    keys = bytearray()
    places = array("q")
    domain_places: dict[str, int] = {}
    claim = claimed_elsewhere(family, split, task_name)
    for row, example in enumerate(task.examples):
        if allows is not None and not allows(task_name, example.label, example.parallel_id):
            continue
        if claim is not None and (other := claim(example)):
            raise IclError(
                f"Example {example.id!r} of the task {task_name!r} in {language!r} belongs to the "
                f"splits {split!r} and {other[0]!r}, which are to be disjoint by {other[1]}; leave "
                "it out of one of them."
            )
        place = column.get(task.kind.stratum(example.label))
        if place is None:
            raise IclError(
                f"Example {example.id!r} of the task {task_name!r} in {language!r} has the label "
                f"{example.label!r}, which the task does not list; add it or map it."
            )
        rows.append(row)
        classes.append(place)
        keys += _keys(example)
        if domains:
            if not example.domain:
                raise IclError(
                    f"Example {example.id!r} of the task {task_name!r} in {language!r} names no "
                    "domain; say under `columns` which column holds the `domain`."
                )
            places.append(domain_places.setdefault(example.domain, len(domain_places)))
    table = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 3)
    pool = Pool(
        task=task,
        rows=np.frombuffer(rows, dtype=np.int64),
        classes=np.frombuffer(classes, dtype=np.int64),
        keys=table,
        conflicting=0,
        domains=np.frombuffer(places, dtype=np.int64) if places else np.broadcast_to(0, len(rows)),
        domain_names=tuple(domain_places),
    )
    marked = _conflicting(table[:, 2], pool.classes)
    return replace(pool.part(~marked), conflicting=int(marked.sum()))


def _conflicting(texts: Keys, classes: Ints) -> NDArray[np.bool_]:
    """Mark the rows whose text stands under two labels."""
    unique, node = np.unique(texts, return_inverse=True)
    low = np.full(len(unique), np.iinfo(np.int64).max)
    high = np.full(len(unique), -1)
    np.minimum.at(low, node, classes)
    np.maximum.at(high, node, classes)
    marked: NDArray[np.bool_] = (low != high)[node]
    return marked


def copy_groups(keys: Keys, pairs: Ints | None = None) -> Ints:
    """Number the groups of copies: rows that share a key, directly or through others.

    Args:
        keys: shape (rows, kinds of key).
        pairs: rows to be held for copies beside those, shape (pairs, 2).

    Returns:
        The group of each row, shape (rows,). Rows that are copies of each other have the same.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(keys)
    groups = np.arange(count, dtype=np.int64)
    if pairs is not None and len(pairs):
        near = coo_matrix((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(count, count))
        groups = connected_components(near, directed=False)[1].astype(np.int64)
    for column in range(keys.shape[1]):
        unique, node = np.unique(keys[:, column], return_inverse=True)
        if len(unique) == count:
            continue
        # Rows joined so far are one node each; each shared key links the groups that hold it.
        size = int(groups.max()) + 1
        links = coo_matrix(
            (np.ones(count, dtype=np.int8), (groups, size + node)),
            shape=(size + len(unique), size + len(unique)),
        )
        _, component = connected_components(links, directed=False)
        groups = component[groups].astype(np.int64)
    return groups

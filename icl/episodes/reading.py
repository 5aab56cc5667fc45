"""Reading many examples at once from where that is quicker than one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from icl.tasks.task import Example


@runtime_checkable
class Takes(Protocol):
    """Examples that give many rows in one go, such as those in a mapped file."""

    def take(self, rows: Sequence[int]) -> list[Example]:
        """Return the examples of some row numbers, in their order."""


_CHUNK = 1 << 13


def in_order(examples: Sequence[Example], rows: Sequence[int]) -> Iterator[Example]:
    """Yield the examples of ascending row numbers, many at once where that is quicker."""
    if isinstance(examples, (list, tuple)) or not isinstance(examples, Takes):
        yield from (examples[row] for row in rows)
        return
    for start in range(0, len(rows), _CHUNK):
        yield from examples.take(rows[start : start + _CHUNK])


Rows = tuple[Sequence[Example], Sequence[int]]


class Shelf:
    """Examples fetched ahead; what is in memory anyway is not fetched.

    Args:
        needs: (a task's examples, row numbers) pairs of episodes that are about to be made.
    """

    def __init__(self, needs: Iterable[Rows] = ()) -> None:
        wanted: dict[int, tuple[Takes, set[int]]] = {}
        for examples, rows in needs:
            if id(examples) in wanted:
                wanted[id(examples)][1].update(rows)
            elif not isinstance(examples, (list, tuple)) and isinstance(examples, Takes):
                wanted[id(examples)] = (examples, set(rows))
        self._fetched: dict[int, Mapping[int, Example]] = {}
        for key, (source, numbers) in wanted.items():
            order = sorted(numbers)
            self._fetched[key] = dict(zip(order, source.take(order), strict=True))

    def get(self, examples: Sequence[Example], rows: Sequence[int]) -> tuple[Example, ...]:
        """Return the examples of some row numbers, fetched ahead or not."""
        ready = self._fetched.get(id(examples), examples)
        return tuple([ready[row] for row in rows])

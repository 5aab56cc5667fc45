"""Reading many examples at once from where that is quicker than one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from icl.tasks.task import Example

_CHUNK = 1 << 13


def in_order(examples: Sequence[Example], rows: Sequence[int]) -> Iterator[Example]:
    """Yield the examples of ascending row numbers, many at once where that is quicker."""
    take = _take(examples)
    if take is None:
        yield from (examples[row] for row in rows)
        return
    for start in range(0, len(rows), _CHUNK):
        yield from take(rows[start : start + _CHUNK])


def _take(examples: Sequence[Example]) -> Any:
    """Return what gives many rows in one go, as of those in a mapped file; None: nothing does."""
    return getattr(examples, "take", None)


Rows = tuple[Sequence[Example], Sequence[int]]


class Shelf:
    """Examples fetched ahead; what is in memory anyway is not fetched.

    Args:
        needs: (a task's examples, row numbers) pairs of episodes that are about to be made.
    """

    def __init__(self, needs: Iterable[Rows] = ()) -> None:
        wanted: dict[int, tuple[Any, set[int]]] = {}
        for examples, rows in needs:
            if (take := _take(examples)) is not None:
                wanted.setdefault(id(examples), (take, set()))[1].update(rows)
        self._fetched: dict[int, Mapping[int, Example]] = {}
        for key, (take, numbers) in wanted.items():
            order = sorted(numbers)
            self._fetched[key] = dict(zip(order, take(order), strict=True))

    def get(self, examples: Sequence[Example], rows: Sequence[int]) -> tuple[Example, ...]:
        """Return the examples of some row numbers, fetched ahead or not."""
        ready = self._fetched.get(id(examples), examples)
        return tuple([ready[row] for row in rows])

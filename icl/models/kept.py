"""`Kept`: things in memory under a budget of bytes, the least recently used dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class HasBytes(Protocol):
    """What knows how many bytes it takes, as tensors do."""

    @property
    def nbytes(self) -> int:
        """How many."""


Thing = TypeVar("Thing", bound=HasBytes)


class Kept(Generic[Thing]):
    """A store in memory that never holds more than its budget between two calls.

    Attributes:
        budget: bytes that may be kept; 0 turns the store off.
        used: bytes that are kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._kept: OrderedDict[Hashable, Thing] = OrderedDict()

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.used = 0

    def find(self, key: Hashable) -> Thing | None:
        """Return what is kept under a key, which then is the last to be dropped; else None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, thing: Thing) -> None:
        """Keep a thing under a key, and drop what the budget has no room for."""
        old = self._kept.pop(key, None)
        self.used += thing.nbytes - (0 if old is None else old.nbytes)
        self._kept[key] = thing
        while self.used > self.budget:
            self.used -= self._kept.popitem(last=False)[1].nbytes

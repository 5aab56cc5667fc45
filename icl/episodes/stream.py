"""`Stream`: random integers that are the same for ever, everywhere."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORDS = 64
_UNPACK = struct.Struct(f"<{_WORDS}Q").unpack
_RANGE = 1 << 64
_MASK = _RANGE - 1


class Stream:
    """Random integers derived from a key by SHAKE-256 (FIPS 202) in counter mode.

    Why not a library's generator: what NumPy's `Generator` methods and Python's `random.shuffle`
    draw from a seed may change between versions, while a standardised hash cannot; and a hash
    needs no state to carry between episodes, so any process draws any episode alone.

    Args:
        key: what the stream is for: JSON values, e.g. ``("episode", seed, split, index)``.
            Streams with different keys are independent.

    >>> Stream("a", 1).below(1000), Stream("a", 1).below(1000), Stream("a", 2).below(1000)
    (866, 866, 177)
    """

    __slots__ = ("_block", "_key", "_next", "_words")

    def __init__(self, *key: str | int | None) -> None:
        self._key = json.dumps(key, ensure_ascii=True, separators=(",", ":")).encode() + b"#"
        self._block = 0
        self._next = _WORDS
        self._words: tuple[int, ...] = ()

    def word(self) -> int:
        """Draw an integer from 0 up to 2**64 - 1."""
        if self._next == _WORDS:
            block = self._key + b"%d" % self._block
            self._words = _UNPACK(hashlib.shake_256(block).digest(8 * _WORDS))
            self._block += 1
            self._next = 0
        value = self._words[self._next]
        self._next += 1
        return value

    def below(self, bound: int) -> int:
        """Draw an integer from 0 up to `bound` - 1, without bias (Lemire 2019, section 4)."""
        product = self.word() * bound
        if product & _MASK < bound:
            floor = _RANGE % bound
            while product & _MASK < floor:
                product = self.word() * bound
        return product >> 64

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Draw `count` of the items without replacement, in random order (Fisher-Yates)."""
        pool = list(items)
        for place in range(count):
            other = place + self.below(len(pool) - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        return self.sample(items, len(items))

    def uniform(self) -> float:
        """Draw a number from 0 up to, but not including, 1, with 53 random bits."""
        return (self.word() >> 11) * 2.0**-53

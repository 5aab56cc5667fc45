"""`Stream`: random integers that are the same for ever, everywhere."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_WORDS = 64
_UNPACK = struct.Struct(f"<{_WORDS}Q").unpack
_MASK = (1 << 64) - 1


def _block(key: bytes, number: int) -> bytes:
    return hashlib.shake_256(b"%b#%d" % (key, number)).digest(8 * _WORDS)


def stream_words(keys: Sequence[str], count: int) -> NDArray[np.uint64]:
    """Return the first `count` words of the stream of each key, shape (keys, count)."""
    blocks = range(-(-count // _WORDS))
    data = b"".join(_block(key.encode(), number) for key in keys for number in blocks)
    words = np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False)
    return words.reshape(len(keys), len(blocks) * _WORDS)[:, :count]


class Stream:
    """Random integers derived from a key by SHAKE-256 (FIPS 202) in counter mode.

    Why not a library's generator: what NumPy's `Generator` methods and Python's `random.shuffle`
    draw from a seed may change between versions, while a standardised hash cannot; and a hash
    needs no state to carry between episodes, so any process draws any episode alone.

    Args:
        key: what the stream is for. Streams with different keys are independent.

    >>> Stream("a/1").below(1000), Stream("a/1").below(1000), Stream("a/2").below(1000)
    (930, 930, 634)
    """

    __slots__ = ("_block", "_key", "_next", "_words")

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._block = 0
        self._next = _WORDS
        self._words: tuple[int, ...] = ()

    def word(self) -> int:
        """Draw an integer from 0 up to 2**64 - 1."""
        if self._next == _WORDS:
            self._words = _UNPACK(_block(self._key, self._block))
            self._block += 1
            self._next = 0
        value = self._words[self._next]
        self._next += 1
        return value

    def below(self, bound: int) -> int:
        """Draw an integer from 0 up to `bound` - 1."""
        return self.pick(bound)[0]

    def pick(self, bound: int) -> tuple[int, int]:
        """Draw an integer below `bound`, and with it a second number to order picks by.

        The first is the high half of word x bound: its bias is below bound / 2**64, less than
        1e-12 for ten million rows, which no experiment can see, so that nothing is rejected and
        the n-th draw always takes the n-th word. The low half, given the high one, is uniform
        below 2**64 in steps of `bound`: a sort key independent of the first.
        """
        product = self.word() * bound
        return product >> 64, product & _MASK

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Draw `count` of the items without replacement, in random order."""
        urn = Urn(len(items))
        return [items[urn.take(self)[0]] for _ in range(count)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        return self.sample(items, len(items))

    def uniform(self) -> float:
        """Draw a number from 0 up to, but not including, 1, with 53 random bits."""
        return (self.word() >> 11) * 2.0**-53


class Urn:
    """The numbers 0 to `size` - 1, drawn one by one without replacement.

    A Fisher-Yates shuffle that writes down only the places it has changed, so that an urn of
    millions costs nothing to fill.
    """

    __slots__ = ("_moved", "_next", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._next = 0
        self._moved: dict[int, int] = {}

    def take(self, stream: Stream) -> tuple[int, int]:
        """Draw a number, with a sort key as in `Stream.pick`."""
        here = self._next
        step, key = stream.pick(self.size - here)
        self._next = here + 1
        own = self._moved.pop(here, here)
        if not step:
            return own, key
        there = here + step
        drawn = self._moved.get(there, there)
        self._moved[there] = own
        return drawn, key

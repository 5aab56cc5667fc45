"""A map of single characters in the form that the library tokenizers applies fast.

That form is SentencePiece's: a double-array trie (darts-clone) over the UTF-8 bytes of the
characters, and behind it their replacements, each ended by a zero byte. A unit of the array is 32
bits: its label, the byte that leads to it, in the low 8; bit 8 where a key ends; in the high 22 how
far its children lie, exclusive-or its own place. Where a key ends, the child for byte 0 holds the
place of the replacement, with bit 31 set.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import count
from typing import Any

_LEAF = 1 << 31
_ENDS = 1 << 8
_BLOCK = 64  # bytes after the first of a character differ in their low 6 bits alone


def charsmap(replaced: Mapping[str, str]) -> bytes:
    """Return the map as bytes, to be given to `tokenizers.normalizers.Precompiled`.

    Args:
        replaced: what stands for a character, by the character; neither holds a zero.
    """
    texts, places = bytearray(), dict[str, int]()
    trie: dict[int, Any] = {}  # by bytes; characters of UTF-8 never begin one another
    for character, new in replaced.items():
        if new not in places:
            places[new] = len(texts)
            texts += new.encode() + b"\0"
        *path, last = character.encode()
        node = trie
        for byte in path:
            node = node.setdefault(byte, {})
        node[last] = places[new]
    units = _units(trie)
    size = (max(units) | 255) + 1
    array = struct.pack(f"<{size}I", *(units.get(i, _LEAF) for i in range(size)))
    return struct.pack("<I", len(array)) + array + bytes(texts)


def _units(trie: Mapping[int, Any]) -> dict[int, int]:
    """Lay a trie out; no two nodes count their children from the same base."""
    units = {0: 0}
    inner, ends = [(0, 0, trie)], []
    block = 256  # the first byte has all of the first 256 places
    for place, base, node in inner:
        units[place] |= (place ^ base) << 10
        for byte, child in node.items():
            units[base ^ byte] = byte
            if isinstance(child, Mapping):
                inner.append((base ^ byte, block ^ 0x80, child))
                block += _BLOCK
            else:
                ends.append((base ^ byte, child))
    free = (place for place in count(1) if place % _BLOCK and place not in units)
    for place, text in ends:
        leaf = next(free)
        units[place] |= (place ^ leaf) << 10 | _ENDS
        units[leaf] = _LEAF | text
    return units

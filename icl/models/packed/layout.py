"""Which packed rows attend to which: a trie's attention cut into dense blocks.

A token attends to its own segment (causally) and to every ancestor segment (wholly, but for a
sliding window). Each such (queries, keys) pair of contiguous ranges is a `Block`. A token takes
part in at most one block a depth, so the blocks' results are merged by their log-sum-exps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from icl.models.packed.trie import IntArray, PackedTrie, Segment

_ROWS = ("queries", "keys", "query_positions", "key_positions", "kept")

_WASTE = 1.3  # blocks are stacked while padding keeps under this ratio
_SMALL = 2**14  # (query, key) pairs: stacks up to this size are made whatever the waste


@dataclass(frozen=True, slots=True)
class Block:
    """Stacked (queries, keys) ranges of rows, padded to a common size by repeating the first.

    Attributes:
        queries: rows of the pass, shape (stack, query length).
        keys: where keys and values lie in memory, shape (stack, key length).
        query_positions, key_positions: their positions, same shapes.
        causal: queries and keys are the same segments. Padded keys then stand after every real
            query, so causality hides them too.
        real_keys: which keys are not padding, shape (stack, key length), or None for all.
        reach: the largest distance from a query back to a key.
        kept: which of the flattened (stack x query length) results are not padding.
    """

    queries: Tensor
    keys: Tensor
    query_positions: Tensor
    key_positions: Tensor
    causal: bool
    real_keys: Tensor | None
    reach: int
    kept: Tensor
    _masks: dict[int | None, Tensor | None] = field(default_factory=dict)
    _hidden: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        queries: Tensor,
        keys: Tensor,
        query_positions: Tensor,
        key_positions: Tensor,
        real_queries: Tensor,
        real_keys: Tensor,
        *,
        causal: bool = False,
    ) -> Block:
        """Make a block out of padded ranges.

        Args:
            queries, keys, query_positions, key_positions, causal: as the attributes.
            real_queries, real_keys: which are not padding, of the shapes of `queries` and `keys`.
        """
        return cls(
            queries=queries,
            keys=keys,
            query_positions=query_positions,
            key_positions=key_positions,
            causal=causal,
            real_keys=None if causal or bool(real_keys.all()) else real_keys,
            reach=int((query_positions.amax(1) - key_positions[:, 0]).max()),
            kept=real_queries.flatten().nonzero().flatten(),
        )

    def on(self, device: torch.device | str) -> Block:
        """Return the same on another device."""
        real = None if self.real_keys is None else self.real_keys.to(device)
        moved = {name: getattr(self, name).to(device) for name in _ROWS}
        return Block(**moved, causal=self.causal, real_keys=real, reach=self.reach)

    def limits(self, window: int | None) -> bool:
        """Tell whether a sliding window of so many tokens hides any key of this block."""
        return window is not None and self.reach >= window

    def reachable(self, begin: int, end: int, window: int | None) -> tuple[int, int]:
        """Return the range of keys outside which queries ``begin .. end`` see none, never empty."""
        high = end if self.causal else self.keys.shape[1]
        if not self.limits(window) or window is None:
            return 0, high
        if window not in self._hidden:
            # how many leading keys lie out of every query's window; keys stand in order
            real = torch.zeros(self.queries.numel(), dtype=torch.bool, device=self.queries.device)
            real[self.kept] = True
            lead = self.query_positions - self.key_positions[:, :1] - window + 1
            lead = lead.masked_fill(~real.reshape(lead.shape), self.keys.shape[1])
            self._hidden[window] = lead.amin(0).clamp_min(0).tolist()
        return min(*self._hidden[window][begin:end], high - 1, self.keys.shape[1] - 1), high

    def mask(self, window: int | None) -> Tensor | None:
        """Return which keys each query sees, shape (stack, queries, keys); None for all of them."""
        window = window if self.limits(window) else None
        if window not in self._masks:
            self._masks[window] = self._make_mask(window)
        return self._masks[window]

    def _make_mask(self, window: int | None) -> Tensor | None:
        distance = self.query_positions[:, :, None] - self.key_positions[:, None, :]
        mask = None if self.real_keys is None else self.real_keys[:, None, :]
        if self.causal:
            width = self.queries.shape[1]
            mask = torch.ones(width, width, dtype=torch.bool, device=distance.device).tril()[None]
        if window is not None:
            mask = distance < window if mask is None else mask & (distance < window)
        return None if mask is None else mask.expand_as(distance)


@dataclass(frozen=True, slots=True)
class Layout:
    """The attention of one packed trie.

    Attributes:
        tokens, positions: shape (1, rows), as a transformers model takes them.
        blocks: all blocks, over all depths.
        merge: for each depth, each row's place in the concatenated block results (the last place
            is a dummy for rows that have no segment at that depth), shape (depths, rows).
        spans: what each row's place is turned by, see `icl.models.packed.rope`, same shape as
            `tokens`; None where a model does not ask.
    """

    tokens: Tensor
    positions: Tensor
    blocks: tuple[Block, ...]
    merge: Tensor
    spans: Tensor | None = None

    _elsewhere: dict[torch.device, Layout] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of packed tokens."""
        return self.tokens.shape[1]

    def on(self, device: torch.device) -> Layout:
        """Return the same on another device, copied once."""
        if device == self.tokens.device:
            return self
        if device not in self._elsewhere:
            blocks = tuple(block.on(device) for block in self.blocks)
            tokens, positions = self.tokens.to(device), self.positions.to(device)
            spans = None if self.spans is None else self.spans.to(device)
            moved = Layout(tokens, positions, blocks, self.merge.to(device), spans)
            self._elsewhere[device] = moved
        return self._elsewhere[device]


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of a segment's attention that falls on the rows laid out.

    Attributes:
        query, queries: first packed row that attends, and how many.
        key, keys: first packed row that is attended to, and how many.
        place: where the first key lies in memory.
        depth: the segment's.
        own: whether queries and keys are the segment itself.
    """

    query: int
    queries: int
    key: int
    keys: int
    place: int
    depth: int
    own: bool


def lay_out(trie: PackedTrie, device: torch.device | str = "cpu") -> Layout:
    """Cut a packed trie's attention into blocks."""
    return lay_out_rows(trie, 0, len(trie.tokens), np.arange(len(trie.tokens)), device)


def lay_out_rows(
    trie: PackedTrie, begin: int, end: int, places: IntArray, device: torch.device | str
) -> Layout:
    """Cut the attention of the rows ``begin .. end`` into blocks.

    Args:
        trie: all rows.
        begin, end: the first row of a segment, and of another or the number of rows.
        places: for each packed row that these rows see, where its keys and values lie in memory;
            a segment's rows lie side by side.
        device: where the model is.
    """
    rows, spans = end - begin, trie.spans
    positions = torch.from_numpy(trie.positions)
    pieces = _pieces(trie.segments, begin, end, places)
    depths = 1 + max((p.depth for p in pieces), default=0)
    merge = torch.full((depths, rows), -1, dtype=torch.long)
    blocks: list[Block] = []
    place = 0
    for stacked in _stacks(pieces):
        blocks.append(_block(stacked, begin, positions, device))
        for p in stacked:
            first = p.query - begin
            merge[p.depth, first : first + p.queries] = torch.arange(place, place + p.queries)
            place += p.queries
    merge[merge < 0] = place
    return Layout(
        tokens=torch.from_numpy(trie.tokens[begin:end])[None].to(device),
        positions=positions[None, begin:end].to(device),
        blocks=tuple(blocks),
        merge=merge.to(device),
        spans=None if spans is None else torch.from_numpy(spans[begin:end])[None].to(device),
    )


def _pieces(segments: tuple[Segment, ...], begin: int, end: int, places: IntArray) -> list[_Piece]:
    pieces = []
    for s in segments:
        if s.start >= end or s.end <= begin:
            continue
        below = s.start + s.length
        place = int(places[s.start])
        if s.start >= begin:
            pieces.append(_Piece(s.start, s.length, s.start, s.length, place, s.depth, True))
        first, last = max(below, begin), min(s.end, end)
        if last > first:
            pieces.append(_Piece(first, last - first, s.start, s.length, place, s.depth, False))
    return pieces


def _stacks(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Group pieces of similar sizes: own-segment ones and those of descendants."""
    stacks: list[list[_Piece]] = []
    for own in (True, False):
        group: list[_Piece] = []
        for p in sorted((p for p in pieces if p.own == own), key=lambda p: (p.keys, p.queries)):
            if group and not _fits([*group, p]):
                stacks.append(group)
                group = []
            group.append(p)
        if group:
            stacks.append(group)
    return stacks


def _fits(group: list[_Piece]) -> bool:
    queries, keys = max(p.queries for p in group), max(p.keys for p in group)
    padded = queries * keys * len(group)
    return padded <= _SMALL or padded <= _WASTE * sum(p.queries * p.keys for p in group)


def _block(group: list[_Piece], begin: int, positions: Tensor, device: torch.device | str) -> Block:
    width, depth = max(p.queries for p in group), max(p.keys for p in group)
    query, key, place, queries, keys = (
        torch.tensor([getattr(p, name) for p in group])[:, None]
        for name in ("query", "key", "place", "queries", "keys")
    )
    wide, deep = torch.arange(width), torch.arange(depth)
    real_query, real_key = wide < queries, deep < keys
    queries = torch.where(real_query, query + wide, query)
    return Block.of(
        queries - begin,
        torch.where(real_key, place + deep, place),
        positions[queries],
        positions[torch.where(real_key, key + deep, key)],
        real_query,
        real_key,
        causal=group[0].own,
    ).on(device)

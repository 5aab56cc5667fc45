"""Which packed rows attend to which: a trie's attention cut into dense blocks.

A token attends to its own segment (causally) and to every ancestor segment (wholly, but for a
sliding window). Each such (queries, keys) pair of contiguous ranges is a `Block`. A token takes
part in at most one block a depth, so the blocks' results are merged by their log-sum-exps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from icl.models.trie import PackedTrie, Segment

_WASTE = 1.3  # blocks are stacked while padding keeps under this ratio
_SMALL = 2**14  # (query, key) pairs: stacks up to this size are made whatever the waste


@dataclass(frozen=True, slots=True)
class Block:
    """Stacked (queries, keys) ranges of packed rows, padded to a common size by repeating row 0.

    Attributes:
        queries: packed rows, shape (stack, query length).
        keys: packed rows, shape (stack, key length).
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
    """

    tokens: Tensor
    positions: Tensor
    blocks: tuple[Block, ...]
    merge: Tensor

    @property
    def rows(self) -> int:
        """The number of packed tokens."""
        return self.tokens.shape[1]


def lay_out(trie: PackedTrie, device: torch.device | str = "cpu") -> Layout:
    """Cut a packed trie's attention into blocks."""
    rows = len(trie.tokens)
    positions = torch.from_numpy(trie.positions)
    depths = 1 + max((s.depth for s in trie.segments), default=0)
    merge = torch.full((depths, rows), -1, dtype=torch.long)
    blocks: list[Block] = []
    place = 0
    for stacked, is_own in _stacks(trie.segments):
        block = _block(stacked, is_own, positions, device)
        blocks.append(block)
        for s in stacked:
            begin, end = (s.start, s.start + s.length) if is_own else (s.start + s.length, s.end)
            merge[s.depth, begin:end] = torch.arange(place, place + end - begin)
            place += end - begin
    merge[merge < 0] = place
    return Layout(
        tokens=torch.from_numpy(trie.tokens)[None].to(device),
        positions=positions[None].to(device),
        blocks=tuple(blocks),
        merge=merge.to(device),
    )


def _stacks(segments: tuple[Segment, ...]) -> list[tuple[list[Segment], bool]]:
    """Group segments whose blocks have similar sizes: own-segment blocks and descendant blocks."""
    stacks: list[tuple[list[Segment], bool]] = []
    own = sorted(segments, key=lambda s: s.length)
    with_children = [s for s in segments if s.end > s.start + s.length]
    below = sorted(with_children, key=lambda s: (s.length, s.end - s.start))
    for ordered, is_own in ((own, True), (below, False)):
        group: list[Segment] = []
        for s in ordered:
            if group and not _fits([*group, s], is_own):
                stacks.append((group, is_own))
                group = []
            group.append(s)
        if group:
            stacks.append((group, is_own))
    return stacks


def _sizes(s: Segment, is_own: bool) -> tuple[int, int]:
    return (s.length if is_own else s.end - s.start - s.length), s.length


def _fits(group: list[Segment], is_own: bool) -> bool:
    sizes = [_sizes(s, is_own) for s in group]
    queries, keys = max(q for q, _ in sizes), max(k for _, k in sizes)
    padded = queries * keys * len(sizes)
    return padded <= _SMALL or padded <= _WASTE * sum(q * k for q, k in sizes)


def _block(
    group: list[Segment], is_own: bool, positions: Tensor, device: torch.device | str
) -> Block:
    sizes = [_sizes(s, is_own) for s in group]
    width, depth = max(q for q, _ in sizes), max(k for _, k in sizes)
    first_query = torch.tensor([s.start + (0 if is_own else s.length) for s in group])[:, None]
    first_key = torch.tensor([s.start for s in group])[:, None]
    real_query = torch.arange(width)[None] < torch.tensor([q for q, _ in sizes])[:, None]
    real_key = torch.arange(depth)[None] < torch.tensor([k for _, k in sizes])[:, None]
    queries = torch.where(real_query, first_query + torch.arange(width), 0)
    keys = torch.where(real_key, first_key + torch.arange(depth), 0)
    reach = positions[queries].amax(1) - positions[keys[:, 0]]
    return Block(
        queries=queries.to(device),
        keys=keys.to(device),
        query_positions=positions[queries].to(device),
        key_positions=positions[keys].to(device),
        causal=is_own,
        real_keys=None if is_own or bool(real_key.all()) else real_key.to(device),
        reach=int(reach.max()),
        kept=real_query.flatten().nonzero().flatten().to(device),
    )

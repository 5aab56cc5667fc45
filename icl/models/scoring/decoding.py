"""Next tokens of many sequences that share prefixes: the step that generation repeats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.packed.keyvalues import KeyValues
from icl.models.packed.layout import Block, Layout, lay_out
from icl.models.packed.trie import IntArray, PackedTrie
from icl.models.tokens import encode

_ROWS_AT_ONCE = 64  # rows whose logits over the vocabulary are held at once


class Decoder:
    """Continues prompts token by token: after each, what a pass over the text so far would give.

    Where a text has grown so long that its tokens' places turn otherwise
    (`icl.models.packed.rope`), what was kept of it is of no use, and it is read anew.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[IntArray],
        copies: int,
        steps: int,
        adapter: Adapter | None,
    ) -> None:
        """Read the encoded prompts; else as `PackedDecoder`."""
        self._backbone, self._adapter, self._left = backbone, adapter, steps
        whole = PackedDecoder(backbone, backbone.spans.pack(prompts), copies, steps, adapter)
        self.first = whole.first
        self._texts = [row.tolist() for row in prompts for _ in range(copies)]
        self._spans = [backbone.spans.of(len(text)) for text in self._texts]
        self._readers = [(whole, number) for number in range(len(self._texts))]

    def step(self, sequences: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """See `PackedDecoder.step`."""
        self._left -= 1
        for sequence, token in zip(sequences, tokens, strict=True):
            self._texts[sequence].append(token)
        spans = {s: self._backbone.spans.of(len(self._texts[s])) for s in sequences}
        anew = [s for s in sequences if spans[s] != self._spans[s]]
        logits: dict[int, Tensor] = {}
        for reader in {id(self._readers[s][0]): self._readers[s][0] for s in sequences}.values():
            own = [s for s in sequences if self._readers[s][0] is reader and s not in anew]
            if own:
                found = reader.step(
                    [self._readers[s][1] for s in own], [self._texts[s][-1] for s in own]
                )
                logits |= zip(own, found, strict=True)
        if anew:
            rows = [np.asarray(self._texts[s], dtype=np.int64) for s in anew]
            trie = self._backbone.spans.pack(rows)
            reader = PackedDecoder(self._backbone, trie, 1, self._left, self._adapter)
            logits |= zip(anew, reader.first, strict=True)
            for number, s in enumerate(anew):
                self._readers[s], self._spans[s] = (reader, number), spans[s]
        return torch.stack([logits[s] for s in sequences])


class PackedDecoder:
    """Continues prompts token by token; what prompts share is computed and kept once.

    The first pass runs the prompts' trie and keeps its keys and values. Each later pass runs one
    row a sequence, which attends to the segments on its own path and to its own new tokens.
    """

    def __init__(
        self,
        backbone: Backbone,
        trie: PackedTrie,
        copies: int,
        steps: int,
        adapter: Adapter | None,
    ) -> None:
        """Read the prompts.

        Args:
            backbone: the model.
            trie: the prompts, packed.
            copies: sequences that continue each prompt.
            steps: the most tokens that each will be given.
            adapter: LoRA factors without a task axis.
        """
        self._backbone, self._adapter = backbone, adapter
        sequences = len(trie.paths) * copies
        self._memory = KeyValues(len(trie.tokens) + sequences * steps)
        hidden = backbone.hidden(
            lay_out(trie, backbone.device), adapter=adapter, memory=self._memory
        )
        self._memory.filled = len(trie.tokens)
        lasts = torch.tensor([int(path[-1]) for path in trie.paths], device=backbone.device)
        self.first = _logits(backbone, hidden.index_select(0, lasts)).repeat_interleave(copies, 0)
        by_start = {s.start: range(s.start, s.start + s.length) for s in trie.segments}
        segments = [_segments(path, by_start) for path in trie.paths]
        self._paths = [path for path in segments for _ in range(copies)]
        self._lengths = [len(path) for path in trie.paths for _ in range(copies)]
        self._tails: list[list[int]] = [[] for _ in range(sequences)]
        self._positions = torch.from_numpy(trie.positions)
        self._spans = None if trie.spans is None else torch.from_numpy(trie.spans)
        self._lasts = [int(path[-1]) for path in trie.paths for _ in range(copies)]

    def step(self, sequences: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Append a token to each of some sequences of equal age; return the logits that follow.

        Args:
            sequences: their numbers, copies of a prompt side by side.
            tokens: one id each.

        Returns:
            Float32, shape (sequences, vocabulary).
        """
        first = self._memory.filled
        for row, sequence in enumerate(sequences, start=first):
            self._tails[sequence].append(row)
        places = torch.tensor([self._lengths[s] + len(self._tails[s]) - 1 for s in sequences])
        self._positions = torch.cat([self._positions, places])
        layout = self._layout(sequences, torch.tensor(tokens), places)
        hidden = self._backbone.hidden(layout, adapter=self._adapter, memory=self._memory)
        self._memory.filled += len(sequences)
        return _logits(self._backbone, hidden)

    def _layout(self, sequences: Sequence[int], tokens: Tensor, places: Tensor) -> Layout:
        """Lay out one row a sequence against its path's segments and its own tail."""
        groups: list[defaultdict[range, list[int]]] = []  # depth -> segment's rows -> queries
        for row, sequence in enumerate(sequences):
            for depth, segment in enumerate(self._paths[sequence]):
                if depth == len(groups):
                    groups.append(defaultdict(list))
                groups[depth][segment].append(row)
        stacks: list[list[tuple[list[int], Sequence[int]]]] = [
            [(rows, segment) for segment, rows in group.items()] for group in groups
        ]
        stacks.append([([row], self._tails[s]) for row, s in enumerate(sequences)])
        merge = torch.full((len(stacks), len(sequences)), -1, dtype=torch.long)
        blocks, place = [], 0
        for depth, stack in enumerate(stacks):
            blocks.append(self._block(stack, places))
            rows = torch.tensor([row for some, _ in stack for row in some])
            merge[depth, rows] = torch.arange(place, place + len(rows))
            place += len(rows)
        merge[merge < 0] = place
        device = self._backbone.device
        spans = None if self._spans is None else self._spans[[self._lasts[s] for s in sequences]]
        return Layout(
            tokens=tokens[None].to(device),
            positions=places[None].to(device),
            blocks=tuple(blocks),
            merge=merge.to(device),
            spans=None if spans is None else spans[None].to(device),
        )

    def _block(self, stack: list[tuple[list[int], Sequence[int]]], places: Tensor) -> Block:
        """Stack (rows, keys) pairs, padded by repeating each one's first."""
        width, depth = max(len(q) for q, _ in stack), max(len(k) for _, k in stack)
        queries = torch.tensor([[*q, *[q[0]] * (width - len(q))] for q, _ in stack])
        keys = torch.tensor([[*k, *[k[0]] * (depth - len(k))] for _, k in stack])
        real_query = torch.arange(width) < torch.tensor([len(q) for q, _ in stack])[:, None]
        real_key = torch.arange(depth) < torch.tensor([len(k) for _, k in stack])[:, None]
        found = places[queries], self._positions[keys], real_query, real_key
        return Block.of(queries, keys, *found).on(self._backbone.device)


class PlainDecoder:
    """Continues prompts by whole passes: for models that cannot run packed."""

    def __init__(self, backbone: Backbone, prompts: Sequence[str], copies: int) -> None:
        """Read the prompts; encoder-decoder models encode them once."""
        self._backbone = backbone
        model: Any = backbone.model
        self._encoded = []
        if model.config.is_encoder_decoder:
            decoder: Any = backbone
            contexts = [[decoder.start] for _ in prompts]
            for prompt in prompts:
                ids = torch.tensor([backbone.tokenizer(prompt)["input_ids"]]).to(backbone.device)
                encoded = {"input_ids": ids, "encoder_outputs": model.get_encoder()(input_ids=ids)}
                self._encoded += [encoded] * copies
        else:
            contexts = [row.tolist() for row in encode(backbone.tokenizer, prompts)]
        self._contexts = [list(c) for c in contexts for _ in range(copies)]
        self.first = torch.stack([self._next(s) for s in range(len(self._contexts))])

    def step(self, sequences: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """See `PackedDecoder.step`."""
        for sequence, token in zip(sequences, tokens, strict=True):
            self._contexts[sequence].append(token)
        return torch.stack([self._next(s) for s in sequences])

    def _next(self, sequence: int) -> Tensor:
        ids = torch.tensor([self._contexts[sequence]], device=self._backbone.device)
        self._backbone.meter.computed_tokens += ids.shape[1]
        if self._encoded:
            out = self._backbone.model(
                **self._encoded[sequence], decoder_input_ids=ids, use_cache=False
            )
        else:
            out = self._backbone.model(input_ids=ids, use_cache=False)
        logits: Tensor = out.logits[0, -1].float()
        return logits


def _segments(path: IntArray, by_start: dict[int, range]) -> list[range]:
    """Return the rows of each segment that makes up a path."""
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(path.tolist())) if b in by_start)]
    return [by_start[int(path[i])] for i in starts]


def _logits(backbone: Backbone, hidden: Tensor) -> Tensor:
    return torch.cat([backbone.logits(some) for some in torch.split(hidden, _ROWS_AT_ONCE)])

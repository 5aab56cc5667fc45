"""Long tries in waves: a stretch of rows at a time, so that activations stay in the cache.

Rows are in depth-first order, so a row sees none that comes after it. A trie may therefore run
stretch by stretch, if the keys and values that later rows look back at are kept: those of the
segments on the way down to the next stretch. Each token is still computed once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.memory import bytes_per_row, is_out_of_memory
from icl.models.packed.keyvalues import KeyValues
from icl.models.packed.layout import lay_out, lay_out_rows
from icl.models.packed.trie import IntArray, PackedTrie

_ROWS_ON_CPU = 1024  # their activations stay in a processor's last cache
_ROWS = 2**14  # a GPU is filled by these


def hidden_in_waves(backbone: Backbone, trie: PackedTrie, adapter: Adapter | None = None) -> Tensor:
    """Run a packed trie without a graph; return the last hidden states, shape (rows, width).

    A wave has as many rows as suit the model's device and its memory budget; a segment that is
    longer is a wave of its own. Where memory runs out all the same, which is said, the budget is
    halved and the trie starts again.

    Args:
        backbone: the model.
        trie: what to run.
        adapter: LoRA factors without a task axis.
    """
    a_row = bytes_per_row(backbone.model)
    best = _ROWS_ON_CPU if backbone.device.type == "cpu" else _ROWS
    cuts = wave_cuts(trie, max(1, min(best, backbone.budget() // a_row)))
    while True:
        try:
            return _run(backbone, trie, adapter, cuts)
        except (RuntimeError, MemoryError) as error:
            longest = max(b - a for a, b in pairwise(cuts))
            smaller = wave_cuts(trie, max(1, longest // 2))
            if not is_out_of_memory(error) or len(smaller) <= len(cuts):
                raise
        backbone.memory_budget = longest // 2 * a_row
        cuts = smaller
        warnings.warn(
            f"Memory ran out on {longest} tokens at once; going on with half as many.",
            stacklevel=3,
        )


def _run(
    backbone: Backbone, trie: PackedTrie, adapter: Adapter | None, cuts: Sequence[int]
) -> Tensor:
    if len(cuts) <= 2:
        return backbone.hidden(lay_out(trie, backbone.device), adapter=adapter)
    seen = [_seen_after(trie, end) for end in cuts[1:]]
    carried = [0, *map(len, seen)]
    memory = KeyValues(max(b - a + n for (a, b), n in zip(pairwise(cuts), carried, strict=False)))
    places = np.zeros(len(trie.tokens), dtype=np.int64)
    states = []
    for (begin, end), kept in zip(pairwise(cuts), seen, strict=True):
        places[begin:end] = memory.filled + np.arange(end - begin)
        layout = lay_out_rows(trie, begin, end, places, backbone.device)
        states.append(backbone.hidden(layout, adapter=adapter, memory=memory))
        memory.filled += end - begin
        memory.keep(torch.from_numpy(places[kept]).to(backbone.device))
        places[kept] = np.arange(len(kept))
    return torch.cat(states)


def wave_cuts(trie: PackedTrie, most: int) -> list[int]:
    """Return where waves begin, and the number of rows: cuts between segments, best near the root.

    >>> from icl.models.packed.trie import pack
    >>> tokens = np.arange(6)
    >>> trie = pack([np.append(tokens, [10, 11, 12]), np.append(tokens, [20, 21, 22])])
    >>> wave_cuts(trie, 9)
    [0, 6, 12]
    """
    rows = len(trie.tokens)
    wanted = -(-rows // (-(-rows // most) or 1))  # waves of about one size
    starts = np.array([s.start for s in trie.segments])
    depths = np.array([s.depth for s in trie.segments])
    cuts = [0]
    while rows - cuts[-1] > wanted + wanted // 4:
        low, high = np.searchsorted(starts, [cuts[-1] + max(1, wanted // 2), cuts[-1] + wanted + 1])
        if low == len(starts):
            break  # one long segment is left
        if low < high:
            least = depths[low:high].min()
            low += int(np.flatnonzero(depths[low:high] == least)[-1])
        cuts.append(int(starts[low]))
    return [*cuts, rows]


def _seen_after(trie: PackedTrie, row: int) -> IntArray:
    """Return the earlier rows that some row from `row` on looks back at."""
    spans = [np.arange(s.start, s.start + s.length) for s in trie.segments if s.start < row < s.end]
    return np.concatenate([*spans, np.empty(0, dtype=np.int64)])

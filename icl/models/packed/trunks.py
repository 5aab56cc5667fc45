"""Trunks of packed prompts: what enters the lowest adapted layer, kept for prompts that come again.

Layers under the lowest adapted one are frozen, so a prompt's states there never change, and
learners that adapt the same layers meet the same prompts. The states are kept in memory under a
budget, the least recently used dropped first; the prompts that are missing run as one packed pass.
Which prompts run together can change the last bits of their states, so a run that must resume to
the bit clears the cache wherever it can be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from icl.models.kept import Kept
from icl.models.packed.layout import Layout, lay_out
from icl.models.packed.trie import IntArray, pack


class TrunkCache(Kept[Tensor]):
    """States by layer, span (`icl.models.packed.rope`) and token sequence."""

    def trunk(
        self,
        run: Callable[[Layout, int], Tensor],
        layout: Layout,
        paths: Sequence[IntArray],
        below: int,
    ) -> Tensor:
        """Return what a model's lower layers make of a packed trie, from the cache where it can be.

        Args:
            run: runs the layers below one, as `Backbone.trunk`.
            layout: a packed trie.
            paths: the packed rows of each of its sequences.
            below: the layer that the states enter.

        Returns:
            Shape (1, rows, width).
        """
        if below == 0 or not self.budget:
            return run(layout, below)
        tokens = layout.tokens[0].cpu().numpy()
        spans = np.zeros(len(tokens)) if layout.spans is None else layout.spans[0].cpu().numpy()
        places = {(below, int(spans[p[:1]].sum()), tokens[p].tobytes()): p for p in paths}
        looked = {key: self.find(key) for key in places}
        found = {key: states for key, states in looked.items() if states is not None}
        missing = {key: path for key, path in places.items() if key not in found}
        if len(missing) == len(places):
            out = run(layout, below)
            for key, path in missing.items():
                self.keep(key, out[0, _rows(path, out)])
            return out
        if missing:
            some_spans = None if layout.spans is None else [span for _, span, _ in missing]
            trie = pack([tokens[path] for path in missing.values()], some_spans)
            states = run(lay_out(trie, layout.tokens.device), below)[0]
            new = {
                key: states[_rows(own, states)]
                for key, own in zip(missing, trie.paths, strict=True)
            }
            for key, value in new.items():
                self.keep(key, value)
            found |= new
        some = next(iter(found.values()))
        out = some.new_zeros(1, layout.rows, some.shape[1])
        for key, path in places.items():
            out[0, _rows(path, out)] = found[key]
        return out


def _rows(path: IntArray, like: Tensor) -> Tensor:
    return torch.from_numpy(path).to(like.device)

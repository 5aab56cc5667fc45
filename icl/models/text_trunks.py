"""What an encoder's lower layers make of texts, computed once for each text and kept.

Layers under the lowest adapted one are frozen, have no dropout and no adapter, so a text's states
there never change. On a CPU texts run in batches of equal lengths, in which a text's states have
the same bits whatever its company (`Encoder.reproducible`). They may therefore be kept for as long
as the weights stay: from step to step, for the next learner that adapts the same layers, and
whether or not a run was stopped in between. The meter charges each piece of work once for a text,
as it does for embeddings: a cost hangs on no cache, nor on its size.

On a GPU, which computes them in less time than it takes to look them up, nothing is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from icl.models.embedding.batches import by_length, of_bounded_size
from icl.models.encoder import Encoder, TextTrunk
from icl.models.flops import spending
from icl.models.packed.trie import IntArray

_SEEN: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # weights as they were last


def text_trunks(encoder: Encoder, rows: Sequence[IntArray], below: int) -> list[Tensor]:
    """Return the states of encoded texts that enter a layer, from those kept where they are.

    Args:
        encoder: whose layers can be entered and left (`staged`).
        rows: token ids of each text, as `Encoder.encode` gives them.
        below: the layer that the states enter; at least 1.

    Returns:
        For each text shape (tokens, width), no graph, in the model's dtype on its device.
    """
    if encoder.device.type != "cpu":
        return _computed(encoder, rows, below)
    store, meter = encoder.text_trunks, encoder.meter
    _look(encoder)
    keys = [_key(row, below) for row in rows]
    known = {key: store.find(key) for key in keys}
    found = {key: trunk for key, trunk in known.items() if trunk is not None}
    for key, trunk in found.items():
        meter.charge(key, trunk.spent)
    missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
    names, texts = list(missing), list(missing.values())
    for batch, length in by_length(texts):
        with torch.no_grad(), spending(encoder) as spent:
            states, _ = encoder.states([texts[i] for i in batch], layer=below, length=length)
        each = spent() * (1 / len(batch))
        for place, i in enumerate(batch):
            trunk = TextTrunk(states[place, : len(texts[i])].clone(), each)
            meter.computed_once(names[i], each)
            found[names[i]] = trunk
            if store.budget:
                store.keep(names[i], trunk)
    return [found[key].states for key in keys]


def as_batch(trunks: Sequence[Tensor], length: int) -> Tensor:
    """Return texts' states as one batch, zero behind each text: shape (texts, length, width)."""
    out = trunks[0].new_zeros(len(trunks), length, trunks[0].shape[1])
    for place, states in enumerate(trunks):
        out[place, : len(states)] = states
    return out


def _computed(encoder: Encoder, rows: Sequence[IntArray], below: int) -> list[Tensor]:
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for batch in of_bounded_size(rows, padded=True):
        with torch.no_grad():
            states, _ = encoder.states([rows[i] for i in batch], layer=below)
        for place, i in enumerate(batch):
            found[i] = states[place, : len(rows[i])]
    return found


def _key(row: IntArray, below: int) -> bytes:
    return hashlib.blake2b(b"trunk %d " % below + row.tobytes(), digest_size=16).digest()


def _look(encoder: Encoder) -> None:
    """Drop what was kept if the weights are others now, or dropout has been turned on.

    Writing to a tensor or putting another in its place is noticed; writing past torch's counters
    (through ``.data``) is noticed by `Encoder.look_again` alone.
    """
    model = encoder.model
    tensors = [*model.parameters(), *model.buffers()]
    parts = [(t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version) for t in tensors]
    mark = hash((model.training, *parts))
    if model.training or _SEEN.get(model, mark) != mark:
        encoder.text_trunks.clear()
    _SEEN[model] = mark

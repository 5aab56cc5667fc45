"""Rotary positions that depend on how long a text is, decided for each sequence and not for a pass.

LongRoPE (Ding et al. 2024, arXiv 2402.13753; Phi-3) turns by other factors once a text is longer
than the model was first trained for, dynamic NTK by ones that grow with the length. transformers
looks at the longest position of a *pass*, so that a neighbour's length would decide, and dynamic
NTK keeps what an earlier pass needed. Here each row has a *span*: 0 while its sequence is short,
else a length that turns as the sequence's own does. Sequences of different spans share no rows, and
a rotary module gives each row what it would give that sequence alone, in a model just loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icl.models.packed.state import active
from icl.models.packed.trie import IntArray, PackedTrie, pack

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class Spans:
    """How a model's rotary positions depend on a sequence's length; hooks what computes them."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [module for module in model.modules() if list(_scalings(module))]
        for module in self._modules:
            module.forward = _by_span(module, module.forward)

    def __bool__(self) -> bool:
        """Tell whether length matters to this model."""
        return bool(self._modules)

    def of(self, length: int) -> int:
        """Return the span of a sequence of so many tokens.

        LongRoPE's is the same for all that are past the switch, dynamic NTK's is the length.
        """
        span = 0
        for module in self._modules:
            for scaling, layers in _scalings(module):
                most = _switch(module, scaling, layers)
                if length > most:
                    span = max(span, most + 1 if scaling == "longrope" else length)
        return span


def pack_for(
    backbone: Backbone, sequences: Sequence[IntArray], lengths: Sequence[int] | None = None
) -> PackedTrie:
    """Pack token sequences so that each is read as this model reads it alone.

    Args:
        backbone: the model.
        sequences: token ids, each of shape (length,).
        lengths: how long each is said to be where that is not its own length: a label's last token
            is not run but counts.
    """
    if not backbone.spans:
        return pack(sequences)
    lengths = [len(row) for row in sequences] if lengths is None else lengths
    return pack(sequences, [backbone.spans.of(length) for length in lengths])


def grows(model: nn.Module) -> bool:
    """Tell whether a model's positions turn otherwise for each length (dynamic NTK)."""
    return any(
        scaling != "longrope" for module in model.modules() for scaling, _ in _scalings(module)
    )


def _scalings(module: nn.Module) -> Iterator[tuple[str, str | None]]:
    """Yield a rotary module's scalings that depend on length, each with the layers it is for."""
    said = getattr(module, "rope_type", None)
    by_layers = said if isinstance(said, dict) else {None: said}
    for layers, scaling in by_layers.items():
        if isinstance(scaling, str) and (scaling == "longrope" or "dynamic" in scaling):
            yield scaling, layers


def _switch(module: Any, scaling: str, layers: str | None) -> int:
    """Return the longest sequence that is short."""
    if scaling != "longrope":
        return int(module.original_max_seq_len)
    settings = module.config.rope_parameters
    settings = settings if layers is None else settings[layers]
    return int(settings["original_max_position_embeddings"])


def _last(module: nn.Module, span: int) -> int:
    """Return the last place that turns as the span says; only padding stands behind it."""
    last = 2**62
    for scaling, layers in _scalings(module):
        most = _switch(module, scaling, layers)
        if span <= most:
            last = min(last, most - 1)
        elif scaling != "longrope":
            last = min(last, span - 1)
    return last


def _by_span(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a rotary module so that a row's span decides, and no earlier pass."""

    def run(x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        state = active()
        spans = None if state is None else state.layout.spans
        if spans is None:
            _forget(module)
            return forward(x, position_ids, *args, **kwargs)
        spans = spans.to(position_ids.device)
        positions, flat = position_ids.expand(spans.shape).flatten(), spans.flatten()
        found: list[Tensor] = []
        for span in torch.unique(flat).tolist():
            rows = (flat == span).nonzero().flatten()
            asked = positions[rows].clamp_max(_last(module, span))
            if span:  # a position of the sequence's end makes the choice, and is dropped
                asked = torch.cat([asked, asked.new_tensor([span - 1])])
            _forget(module)
            turns = forward(x, asked[None], *args, **kwargs)
            if not isinstance(turns, tuple) or any(t.shape[:2] != (1, len(asked)) for t in turns):
                raise NotImplementedError("rotary positions of an unknown shape")
            found = found or [t.new_empty(len(flat), *t.shape[2:]) for t in turns]
            for whole, part in zip(found, turns, strict=True):
                whole[rows] = part[0, : len(rows)]
        return tuple(whole.reshape(*spans.shape, *whole.shape[1:]) for whole in found)

    return run


def _forget(module: Any) -> None:
    """Put dynamic NTK's frequencies back to those of a short text."""
    for scaling, layers in _scalings(module):
        if scaling != "longrope":  # which chooses anew at each pass
            prefix = "" if layers is None else f"{layers}_"
            original = getattr(module, f"{prefix}original_inv_freq")
            before = getattr(module, f"{prefix}inv_freq")
            setattr(module, f"{prefix}inv_freq", original.to(before.device))
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)

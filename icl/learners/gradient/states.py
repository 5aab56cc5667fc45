"""Texts of several tasks as one vector each, through LoRA factors with a task axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from icl.learners.gradient.base import Support
from icl.models.adapters.lora import Adapter
from icl.models.context import fit_fields, joined
from icl.models.packed.blocks import at_least_float32
from icl.models.packed.layout import Layout, lay_out
from icl.models.packed.trie import IntArray, join
from icl.models.tokens import encode

if TYPE_CHECKING:
    from icl.models.backbone import Backbone
    from icl.models.encoder import Encoder
    from icl.tasks.task import Example, Labels


@dataclass(frozen=True, slots=True)
class StateBatch:
    """Labelled texts of several tasks, compiled for repeated passes.

    A causal model reads the zero-shot prompt, and the vector is its last state, the one that
    predicts the label; an encoder reads the text, and the vector is the mean of its states.

    Attributes:
        targets: the right column of each text, shape (texts,).
        owner: the task of each text, shape (texts,).
        tasks: how many tasks there are.
        trunk, start: what enters the lowest adapted layer, and which layer that is.
        layout, last, rows: for a causal model, the packed prompts, the row of each one's last token
            and the rows of each task.
        texts, counts: for an encoder, the encoded texts and how many each task has.
    """

    targets: Tensor
    owner: Tensor
    tasks: int
    trunk: Tensor
    start: int
    layout: Layout | None = None
    last: Tensor | None = None
    rows: tuple[int, ...] = ()
    texts: tuple[IntArray, ...] = ()
    counts: tuple[int, ...] = ()


def compile_states(backbone: Backbone, tasks: Sequence[Support], start: int) -> StateBatch:
    """Compile labelled texts of several tasks; layers below `start` run once, here."""
    device = backbone.device
    targets = torch.tensor([y.index(e.label) for x, y in tasks for e in x], device=device)
    owner = torch.tensor([i for i, (x, _) in enumerate(tasks) for _ in x], device=device)
    if backbone.bidirectional:
        encoder = cast("Encoder", backbone)
        fields = [e.fields for x, _ in tasks for e in x]
        if any(len(own) > 1 for own in fields):  # a lone field is cut where it is encoded
            fields = fit_fields(backbone, fields, lambda own: [joined(own)])
        texts = tuple(encoder.encode([joined(own) for own in fields]))
        with torch.no_grad():
            trunk, _ = encoder.states(texts, layer=start)
        counts = tuple(len(x) for x, _ in tasks)
        return StateBatch(targets, owner, len(tasks), trunk, start, texts=texts, counts=counts)
    tries = [
        backbone.spans.pack(encode(backbone.tokenizer, _prompts(backbone, examples, labels)))
        for examples, labels in tasks
    ]
    trie = join(tries)
    layout = lay_out(trie, device)
    return StateBatch(
        targets,
        owner,
        len(tasks),
        backbone.trunks.trunk(backbone.trunk, layout, trie.paths, start),
        start,
        layout=layout,
        last=torch.tensor([int(path[-1]) for path in trie.paths], device=device),
        rows=tuple(len(t.tokens) for t in tries),
    )


def _prompts(backbone: Backbone, examples: Sequence[Example], labels: Labels) -> list[str]:
    render = labels.template.render
    fitted = fit_fields(backbone, [e.fields for e in examples], lambda fields: [render(fields)])
    return [render(fields) for fields in fitted]


def pooled(backbone: Backbone, batch: StateBatch, adapter: Adapter) -> Tensor:
    """Return each text's vector in float32, shape (texts, width), with a graph to the adapter.

    Args:
        backbone: the model.
        batch: what `compile_states` compiled.
        adapter: factors with a task axis.
    """
    if backbone.bidirectional:
        states, real = cast("Encoder", backbone).states(
            batch.texts,
            adapter=adapter,
            tasks=batch.counts,
            trunk=batch.trunk if batch.start else None,
            start=batch.start,
        )
        weights = real.to(states.dtype)[..., None]
        return at_least_float32((states * weights).sum(1) / weights.sum(1))
    assert batch.layout is not None
    assert batch.last is not None
    hidden = backbone.hidden(
        batch.layout, adapter=adapter, tasks=batch.rows, trunk=batch.trunk, start=batch.start
    )
    return at_least_float32(hidden.index_select(0, batch.last))

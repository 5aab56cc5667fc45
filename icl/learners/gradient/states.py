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
from icl.models.embedding.batches import of_similar_length
from icl.models.packed.blocks import at_least_float32
from icl.models.packed.layout import Layout, lay_out
from icl.models.packed.trie import IntArray, join
from icl.models.text_trunks import as_batch, text_trunks
from icl.models.tokens import encode

if TYPE_CHECKING:
    from icl.models.backbone import Backbone
    from icl.models.encoder import Encoder
    from icl.tasks.task import Example, Labels


@dataclass(frozen=True, slots=True)
class TextGroup:
    """An encoder's texts of similar lengths, which run as one padded pass.

    Attributes:
        places: where each stands in its batch, shape (texts,).
        rows: the encoded texts.
        counts: how many of them each task has.
        trunk: what enters the lowest adapted layer, shape (texts, length, width); None where all
            layers run.
    """

    places: Tensor
    rows: tuple[IntArray, ...]
    counts: tuple[int, ...]
    trunk: Tensor | None


@dataclass(frozen=True, slots=True)
class StateBatch:
    """Labelled texts of several tasks, compiled for repeated passes.

    A causal model reads the zero-shot prompt, and the vector is its last state, the one that
    predicts the label; an encoder reads the text, and the vector is the mean of its states.

    Attributes:
        targets: the right column of each text, shape (texts,).
        owner: the task of each text, shape (texts,).
        tasks: how many tasks there are.
        start: the lowest adapted layer.
        trunk: for a causal model, what enters that layer.
        layout, last, rows: for a causal model, the packed prompts, the row of each one's last token
            and the rows of each task.
        groups: for an encoder, the texts in the passes that they run in.
    """

    targets: Tensor
    owner: Tensor
    tasks: int
    start: int
    trunk: Tensor | None = None
    layout: Layout | None = None
    last: Tensor | None = None
    rows: tuple[int, ...] = ()
    groups: tuple[TextGroup, ...] = ()

    @property
    def parts(self) -> list[tuple[TextGroup | None, Tensor]]:
        """What can run by itself, and the places of its texts: an encoder's groups, or all."""
        if self.groups:
            return [(group, group.places) for group in self.groups]
        return [(None, torch.arange(len(self.owner), device=self.owner.device))]


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
        texts = encoder.encode([joined(own) for own in fields])
        groups = _groups(encoder, texts, owner, len(tasks), start)
        return StateBatch(targets, owner, len(tasks), start, groups=groups)
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
        start,
        trunk=backbone.trunks.trunk(backbone.trunk, layout, trie.paths, start),
        layout=layout,
        last=torch.tensor([int(path[-1]) for path in trie.paths], device=device),
        rows=tuple(len(t.tokens) for t in tries),
    )


def _groups(
    encoder: Encoder, texts: Sequence[IntArray], owner: Tensor, tasks: int, start: int
) -> tuple[TextGroup, ...]:
    """Part texts into passes: of similar lengths on a CPU, all as one on a GPU."""
    trunks = text_trunks(encoder, texts, start) if start else []
    everything = [list(range(len(texts)))]
    parts = of_similar_length(texts) if encoder.device.type == "cpu" else everything
    groups = []
    for group in parts:
        part = sorted(group)  # a task's texts stand together, as an adapter wants them
        places = torch.tensor(part, device=owner.device)
        rows = tuple(texts[i] for i in part)
        counts = owner[places].bincount(minlength=tasks).tolist()
        length = max(map(len, rows))
        trunk = as_batch([trunks[i] for i in part], length) if start else None
        groups.append(TextGroup(places, rows, tuple(counts), trunk))
    return tuple(groups)


def _prompts(backbone: Backbone, examples: Sequence[Example], labels: Labels) -> list[str]:
    render = labels.template.render
    fitted = fit_fields(backbone, [e.fields for e in examples], lambda fields: [render(fields)])
    return [render(fields) for fields in fitted]


def pooled(
    backbone: Backbone, batch: StateBatch, adapter: Adapter, group: TextGroup | None = None
) -> Tensor:
    """Return texts' vectors in float32, shape (texts, width), with a graph to the adapter.

    Args:
        backbone: the model.
        batch: what `compile_states` compiled.
        adapter: factors with a task axis.
        group: one of the batch's groups, whose texts alone are wanted; None for all texts.
    """
    if group is not None:
        states, real = cast("Encoder", backbone).states(
            group.rows, adapter=adapter, tasks=group.counts, trunk=group.trunk, start=batch.start
        )
        weights = real.to(states.dtype)[..., None]
        return at_least_float32((states * weights).sum(1) / weights.sum(1))
    if batch.groups:
        each = [pooled(backbone, batch, adapter, own) for own in batch.groups]
        places = torch.cat([own.places for own in batch.groups])
        return torch.cat(each).index_select(0, places.argsort())
    assert batch.layout is not None
    assert batch.last is not None
    hidden = backbone.hidden(
        batch.layout, adapter=adapter, tasks=batch.rows, trunk=batch.trunk, start=batch.start
    )
    return at_least_float32(hidden.index_select(0, batch.last))

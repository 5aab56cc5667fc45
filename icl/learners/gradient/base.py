"""What gradient learners share: parameters, compiled tasks, per-task losses, label predictions.

A gradient learner reads one zero-shot prompt an example, scores the episode's label words after it,
and minimises the cross-entropy of the right one. Several tasks run as one packed forward with LoRA
factors that carry a task axis. Layers below the lowest adapted one are frozen, so what enters it is
computed once for each set of examples (the trunk).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor

from icl.learners.adapter_params import AdapterParams
from icl.learners.base import Predictor
from icl.models.adapters.lora import Adapter, LoraSpec, Start, Variant
from icl.models.adapters.lora_start import default_targets, lowest_layer
from icl.models.adapters.peft_adapter import (
    adapter_digest,
    adapter_folder,
    check_fits,
    open_adapter,
    start_factors,
)
from icl.models.context import fit_fields
from icl.models.scoring.alike import check_words
from icl.models.scoring.scorer import ScorePlan, make_plan, make_task_plan, score
from icl.models.tokens import encode
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Factors = Mapping[str, Tensor]
Support = tuple[Sequence[Example], Labels]
_STARTS = get_args(Start)
_ROWS_ON_CPU = 512  # tokens of one piece


class LoraParams(AdapterParams):
    """The adapter of a gradient learner.

    Attributes:
        variant: ``lora``, ``rslora`` or ``dora``, see `icl.models.adapters.lora`.
        start: ``zero`` or ``orthogonal``, see `LoraSpec`; or a PEFT adapter, a directory or a Hub
            id. Its rank, alpha and variant must be these; its linear maps are adapted, unless
            `targets` or `top_layers` are set, which must then agree with it.
    """

    variant: Variant = "lora"
    start: str = "zero"

    @field_validator("start")
    @classmethod
    def _start_is_known(cls, start: str) -> str:
        if start not in _STARTS and "/" not in start and not Path(start).expanduser().is_dir():
            raise ValueError(
                f"{start!r} is neither `zero`, nor `orthogonal`, nor a PEFT adapter's directory or"
                " Hub id"
            )
        return start

    @property
    def adapter(self) -> str | None:
        """The PEFT adapter to start from; None for a start that is drawn."""
        return None if self.start in _STARTS else self.start

    def spec(self, backbone: Backbone) -> LoraSpec:
        """Return the adapter's specification for a backbone."""
        from_adapter = self.adapter is not None
        targets = self.targets or (() if from_adapter else default_targets(backbone))
        start: Start = "orthogonal" if self.start == "orthogonal" else "zero"
        return LoraSpec(self.rank, self.alpha, targets, self.top_layers, self.variant, start)

    def begin(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the factors to start from: drawn, or read from the adapter.

        Raises:
            IclError: there is no such adapter, or it does not fit these parameters or the model.
        """
        if self.adapter is None:
            return super().begin(backbone)
        spec = self.spec(backbone)
        if self.targets is None and self.top_layers is not None:
            spec = replace(spec, targets=default_targets(backbone))
        anywhere = self.targets is None and self.top_layers is None
        return start_factors(backbone, spec, self.adapter, any_modules=anywhere)

    def identity(self) -> dict[str, Any]:
        """Return the parameters as JSON values, an adapter by the hash of its files."""
        found = super().identity()
        if self.adapter is not None:
            found["start"] = f"adapter {adapter_digest(adapter_folder(self.adapter))}"
        return found

    def check_files(self) -> None:
        """Raise `IclError` where the adapter is not there or fits other parameters than these."""
        if self.adapter is not None:
            spec = LoraSpec(self.rank, self.alpha, variant=self.variant)
            check_fits(open_adapter(self.adapter), spec)


@dataclass(frozen=True, slots=True)
class Piece:
    """Prompts of some tasks that run as one packed pass.

    Attributes:
        plan: prompts x label words.
        targets: the right column of each prompt, shape (prompts,).
        owner: each prompt's task, as a place in `tasks`, shape (prompts,).
        tasks: which of the batch's tasks these are.
        trunk, start: what enters the lowest adapted layer, and which layer that is.
    """

    plan: ScorePlan
    targets: Tensor
    owner: Tensor
    tasks: Tensor
    trunk: Tensor
    start: int


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """Labelled examples of several tasks, compiled for repeated passes.

    Attributes:
        pieces: what to run. A task's loss is a mean over examples, so gradients can be taken piece
            by piece and added, and only one piece's activations need be in memory.
        sizes: how many examples each task has, shape (tasks,).
    """

    pieces: tuple[Piece, ...]
    sizes: Tensor


def compile_batch(backbone: Backbone, tasks: Sequence[Support], factors: Factors) -> TaskBatch:
    """Compile labelled examples of several tasks with equally many labels each.

    On a CPU they are cut into pieces whose activations stay near the processor's cache; a GPU runs
    them all at once.
    """
    start = lowest_layer(backbone, factors)
    tasks = [(_fitted(backbone, examples, labels), labels) for examples, labels in tasks]
    pieces = []
    for group in _cut(backbone, tasks):
        prompts, targets, owner = [], [], []
        for place, (index, examples) in enumerate(group):
            labels = tasks[index][1]
            check_words(backbone.tokenizer, labels)
            answers = [labels.template.answer(word) for word in labels.words]
            prompts.append(([labels.template.render(e.fields) for e in examples], answers))
            targets += [labels.index(e.label) for e in examples]
            owner += [place] * len(examples)
        plan = make_task_plan(backbone, prompts)
        pieces.append(
            Piece(
                plan=plan,
                targets=torch.tensor(targets, device=backbone.device),
                owner=torch.tensor(owner, device=backbone.device),
                tasks=torch.tensor([index for index, _ in group], device=backbone.device),
                trunk=backbone.trunks.trunk(backbone.trunk, plan.layout, plan.trie.paths, start),
                start=start,
            )
        )
    sizes = torch.tensor([len(examples) for examples, _ in tasks], device=backbone.device)
    return TaskBatch(tuple(pieces), sizes)


def _fitted(backbone: Backbone, examples: Sequence[Example], labels: Labels) -> list[Example]:
    template = labels.template
    answers = [template.answer(word) for word in labels.words]
    texts = [example.fields for example in examples]
    fitted = fit_fields(backbone, texts, lambda f: [template.render(f)], answers=answers)
    return [
        e if e.fields is f else replace(e, fields=f) for e, f in zip(examples, fitted, strict=True)
    ]


def rows_at_once(backbone: Backbone) -> float:
    """Return about how many tokens a piece has: a GPU takes all at once."""
    return _ROWS_ON_CPU if backbone.device.type == "cpu" else math.inf


def _cut(backbone: Backbone, tasks: Sequence[Support]) -> list[list[tuple[int, Sequence[Example]]]]:
    """Part examples into pieces of about `_ROWS_ON_CPU` tokens: lists of (task, examples)."""
    if backbone.device.type != "cpu":
        return [[(i, examples) for i, (examples, _) in enumerate(tasks)]]
    pieces: list[list[tuple[int, Sequence[Example]]]] = []
    room = 0
    for index, (examples, labels) in enumerate(tasks):
        texts = [labels.template.render(e.fields) for e in examples]
        lengths = np.array([len(row) for row in encode(backbone.tokenizer, texts)])
        count = min(len(examples), -(-int(lengths.sum()) // _ROWS_ON_CPU)) or 1
        # equal numbers of tokens, the shortest prompts together: blocks of one size stack
        order = np.argsort(lengths, kind="stable")
        ends = np.searchsorted(lengths[order].cumsum(), lengths.sum() * np.arange(1, count) / count)
        for part in np.split(order, ends):
            if len(part):
                size = int(lengths[part].sum())
                if size > room:
                    pieces.append([])
                    room = _ROWS_ON_CPU
                pieces[-1].append((index, [examples[i] for i in sorted(part)]))
                room -= size
    return pieces


def of_tasks(adapter: Adapter, piece: Piece, tasks: int) -> Adapter:
    """Return the factors of a piece's tasks, out of those of all `tasks`."""
    if len(piece.tasks) == tasks:
        return adapter
    factors = {n: v.index_select(0, piece.tasks) for n, v in adapter.factors.items()}
    return Adapter(factors, adapter.scale)


class WordLoss:
    """Each task's loss as a function of factors with a task axis, and the pieces it is a sum of."""

    def __init__(self, backbone: Backbone, tasks: Sequence[Support], start: Factors, scale: float):
        """Compile labelled examples of several tasks; `start` names what is adapted."""
        self.backbone = backbone
        self.scale = scale
        self.batch = compile_batch(backbone, tasks, start)
        self.parts = [partial(self._part, piece) for piece in self.batch.pieces]

    def __call__(self, params: Factors) -> Tensor:
        """Return each task's mean cross-entropy over its examples, shape (tasks,)."""
        return torch.stack([part(params) for part in self.parts]).sum(0)

    def _part(self, piece: Piece, params: Factors) -> Tensor:
        """Return what one piece adds to each task's loss, shape (tasks,)."""
        sizes = self.batch.sizes
        scores = score(
            self.backbone,
            piece.plan,
            adapter=of_tasks(Adapter(params, self.scale), piece, len(sizes)),
            trunk=piece.trunk,
            start=piece.start,
            relative=True,
        )
        right = scores.log_softmax(1).gather(1, piece.targets[:, None])[:, 0]
        sums = right.new_zeros(len(sizes)).index_add(0, piece.tasks[piece.owner], -right)
        return sums / sizes


def mean_by_task(values: Tensor, owner: Tensor, tasks: int) -> Tensor:
    """Average examples' values, shape (examples,), over each task's: shape (tasks,)."""
    sums = values.new_zeros(tasks).index_add(0, owner, values)
    return sums / owner.bincount(minlength=tasks)


class AdaptedPredictor(Predictor):
    """Scores label words after zero-shot prompts, with one task's adapter."""

    def __init__(self, backbone: Backbone, labels: Labels, adapter: Adapter) -> None:
        check_words(backbone.tokenizer, labels)  # without support nothing else has looked
        self._backbone = backbone
        self._labels = labels
        self._adapter = adapter
        self.trained_parameters = sum(value.numel() for value in adapter.factors.values())

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the episode's label words after each text's prompt."""
        backbone, template = self._backbone, self._labels.template
        answers = [template.answer(word) for word in self._labels.words]
        texts = fit_fields(backbone, texts, lambda f: [template.render(f)], answers=answers)
        plan = make_plan(backbone, [template.render(t) for t in texts], answers)
        below = lowest_layer(backbone, self._adapter.factors)
        with torch.no_grad():
            trunk = backbone.trunks.trunk(backbone.trunk, plan.layout, plan.trie.paths, below)
            scores = score(
                backbone, plan, adapter=self._adapter, trunk=trunk, start=below, relative=True
            )
        return scores.log_softmax(1).cpu()

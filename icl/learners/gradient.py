"""What gradient learners share: parameters, compiled tasks, per-task losses, label predictions.

A gradient learner reads one zero-shot prompt an example, scores the episode's label words after it,
and minimises the cross-entropy of the right one. Several tasks run as one packed forward with LoRA
factors that carry a task axis. Layers below the lowest adapted one are frozen, so what enters it is
computed once for each set of examples (the trunk).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import Params, Predictor
from icl.models.lora import Adapter, LoraSpec, Start, Variant, default_targets, lowest_layer
from icl.models.scorer import ScorePlan, make_plan, make_task_plan, score
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Factors = Mapping[str, Tensor]
Support = tuple[Sequence[Example], Labels]


class LoraParams(Params):
    """The adapter of a gradient learner.

    Attributes:
        rank, alpha: the adapter's size, and its scale ``alpha / rank``.
        targets: names of the adapted linear maps; by default PEFT's choice for the architecture.
        top_layers: adapt only so many of the uppermost layers; by default all.
        seed: of the adapter's random start.
        variant: ``lora``, ``rslora`` or ``dora``, see `icl.models.lora`.
        start: ``zero`` or ``orthogonal``, see `LoraSpec`.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] | None = None
    top_layers: int | None = Field(default=None, ge=1)
    seed: int = 0
    variant: Variant = "lora"
    start: Start = "zero"

    def spec(self, backbone: Backbone) -> LoraSpec:
        """Return the adapter's specification for a backbone."""
        targets = self.targets or default_targets(backbone)
        return LoraSpec(self.rank, self.alpha, targets, self.top_layers, self.variant, self.start)


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """Labelled examples of several tasks, compiled for repeated passes.

    Attributes:
        plan: prompts x label words of all tasks.
        targets: the right column of each prompt, shape (prompts,).
        owner: the task of each prompt, shape (prompts,).
        tasks: how many tasks there are.
        trunk, start: what enters the lowest adapted layer, and which layer that is.
    """

    plan: ScorePlan
    targets: Tensor
    owner: Tensor
    tasks: int
    trunk: Tensor
    start: int


def compile_batch(backbone: Backbone, tasks: Sequence[Support], factors: Factors) -> TaskBatch:
    """Compile labelled examples of several tasks with equally many labels each."""
    prompts, targets, owner = [], [], []
    for index, (examples, labels) in enumerate(tasks):
        answers = [labels.template.answer(word) for word in labels.words]
        prompts.append(([labels.template.render(e.fields) for e in examples], answers))
        targets += [labels.index(e.label) for e in examples]
        owner += [index] * len(examples)
    plan = make_task_plan(backbone, prompts)
    start = lowest_layer(backbone, factors)
    return TaskBatch(
        plan=plan,
        targets=torch.tensor(targets, device=backbone.device),
        owner=torch.tensor(owner, device=backbone.device),
        tasks=len(tasks),
        trunk=backbone.trunks.trunk(backbone, plan.layout, plan.trie.paths, start),
        start=start,
    )


def task_losses(backbone: Backbone, batch: TaskBatch, adapter: Adapter) -> Tensor:
    """Return each task's mean cross-entropy over its examples, shape (tasks,).

    Args:
        backbone: the model.
        batch: what `compile_batch` compiled.
        adapter: factors with a task axis.
    """
    scores = score(
        backbone, batch.plan, adapter=adapter, trunk=batch.trunk, start=batch.start, relative=True
    )
    right = scores.log_softmax(1).gather(1, batch.targets[:, None])[:, 0]
    return mean_by_task(-right, batch.owner, batch.tasks)


def mean_by_task(values: Tensor, owner: Tensor, tasks: int) -> Tensor:
    """Average examples' values, shape (examples,), over each task's: shape (tasks,)."""
    sums = values.new_zeros(tasks).index_add(0, owner, values)
    return sums / owner.bincount(minlength=tasks)


class AdaptedPredictor(Predictor):
    """Scores label words after zero-shot prompts, with one task's adapter."""

    def __init__(self, backbone: Backbone, labels: Labels, adapter: Adapter) -> None:
        self._backbone = backbone
        self._labels = labels
        self._adapter = adapter
        self.trained_parameters = sum(value.numel() for value in adapter.factors.values())

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the episode's label words after each text's prompt."""
        backbone, template = self._backbone, self._labels.template
        answers = [template.answer(word) for word in self._labels.words]
        plan = make_plan(backbone, [template.render(t) for t in texts], answers)
        below = lowest_layer(backbone, self._adapter.factors)
        with torch.no_grad():
            trunk = backbone.trunks.trunk(backbone, plan.layout, plan.trie.paths, below)
            scores = score(
                backbone, plan, adapter=self._adapter, trunk=trunk, start=below, relative=True
            )
        return scores.log_softmax(1).cpu()


def predictors(
    backbone: Backbone, tasks: Sequence[Support], factors: Factors, scale: float
) -> list[Predictor]:
    """Part factors with a task axis into one predictor a task."""
    return [
        AdaptedPredictor(
            backbone,
            labels,
            Adapter({name: value[i].detach().clone() for name, value in factors.items()}, scale),
        )
        for i, (_, labels) in enumerate(tasks)
    ]

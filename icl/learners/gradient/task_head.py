"""A linear head made anew for each task, so that tasks with any number of ways share a start.

Logits are ``z W_k + b_k`` for a text's vector z. The head begins

- from the label words (`words`): W_k and b_k are the language model head's row and bias of the
  word's first token, and logits are scaled and capped as the model does it (Granite, Cohere, Gemma
  2), so that without inner steps the model's own prediction comes out. z is the state over the mean
  length of the support's states, and W is multiplied by it: inner rates then do not depend on the
  model's scale of states;
- from prototypes (`prototypes`; Triantafillou et al. 2020, arXiv 1903.03096, section 3.2):
  ``W_k = 2 c_k``, ``b_k = -|c_k|^2`` for the mean c_k of class k's support, in the graph, so that
  without inner steps a prototypical network comes out;
- at zero (`zero`): all labels alike.

A label without support is ruled out where only the support says what a label is, as by the other
heads (`icl.learners.support.fill_columns`): its bias is so low that no step moves it.
Label words mean something without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icl.learners.base import LOG_ZERO, Predictor
from icl.learners.gradient.algorithms.problem import Loss, spread
from icl.learners.gradient.base import Support, mean_by_task
from icl.learners.gradient.states import StateBatch, TextGroup, compile_states, pooled
from icl.models.adapters.lora import Adapter
from icl.models.scoring.alike import check_words
from icl.models.tokens import encode_pairs
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Begin = Literal["words", "prototypes", "zero"]
WEIGHT, BIAS, SCALE = "head.weight", "head.bias", "head.scale"
_NEVER = 2 * LOG_ZERO  # a bias under which a label has `LOG_ZERO` whatever the others' logits
_STATES = "states/"  # before the names of states that are held as parameters


@dataclass(eq=False)
class HeadTasks:
    """The losses of a meta-batch whose tasks each have a head, as a meta-algorithm asks for them.

    Attributes:
        backbone: the model.
        scale: of the LoRA factors.
        shown: each task's support set and labels; equally many labels.
        asked: each task's query set and labels, or None.
        below: the lowest adapted layer.
        start: where heads begin.
        temperature: divides squared distances where heads begin at prototypes or at zero.
        frozen_body: compute states once, where the inner loop begins: it moves heads only.
    """

    backbone: Backbone
    scale: float
    shown: Sequence[Support]
    asked: Sequence[Support] | None
    below: int
    start: Begin
    temperature: float
    frozen_body: bool

    def __post_init__(self) -> None:
        if self.start == "words":
            for _, labels in self.shown:
                check_words(self.backbone.tokenizer, labels)
        self._batches: dict[str, StateBatch] = {}
        if any(len(examples) for examples, _ in self.shown):
            self._batches["support"] = compile_states(self.backbone, self.shown, self.below)
        if self.asked is not None:
            self._batches["query"] = compile_states(self.backbone, self.asked, self.below)

    def begin(self, start: Mapping[str, Tensor], tasks: int) -> dict[str, Tensor]:
        """Return the parameters where the inner loop begins: the body, the head, maybe states."""
        body = spread(start, tasks)
        # states that are not held are asked for by some heads alone, and of the support alone
        asked = {"support"} if self.start != "zero" else set()
        wanted = [n for n in self._batches if self.frozen_body or n in asked]
        states = {name: self._states(name, body) for name in wanted}
        found = {**body, **self._first_head(states.get("support"), next(iter(start.values())))}
        if self.frozen_body:
            found |= {f"{_STATES}{name}": value for name, value in states.items()}
        return found

    @property
    def support(self) -> SideLoss:
        """Each task's support loss, shape (tasks,)."""
        return SideLoss(self, "support")

    @property
    def query(self) -> SideLoss:
        """Each task's query loss, shape (tasks,)."""
        return SideLoss(self, "query")

    def losses(self, name: str) -> list[Loss]:
        """Return the parts that a side's loss is a sum of: its passes, unless states are held."""
        batch = self._batches[name]
        if self.frozen_body:
            every = torch.arange(len(batch.owner), device=batch.owner.device)
            return [partial(self._part, name, None, every)]
        return [partial(self._part, name, group, places) for group, places in batch.parts]

    def _part(
        self, name: str, group: TextGroup | None, places: Tensor, params: Mapping[str, Tensor]
    ) -> Tensor:
        """Return what some texts of a side add to each task's loss, shape (tasks,)."""
        batch = self._batches[name]
        held = f"{_STATES}{name}"
        states = params[held] if held in params else self._states(name, params, group)
        owner, targets = batch.owner[places], batch.targets[places]
        logits = head_logits(self.backbone, states, params, owner, self.temperature)
        right = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
        sums = right.new_zeros(batch.tasks).index_add(0, owner, -right)
        return sums / batch.owner.bincount(minlength=batch.tasks)

    def _states(
        self, name: str, params: Mapping[str, Tensor], group: TextGroup | None = None
    ) -> Tensor:
        factors = {n: v for n, v in params.items() if not n.startswith(("head.", _STATES))}
        return pooled(self.backbone, self._batches[name], Adapter(factors, self.scale), group)

    def _first_head(self, states: Tensor | None, like: Tensor) -> dict[str, Tensor]:
        each = [labels for _, labels in self.shown]
        tasks, ways = len(each), len(each[0])
        width = int(self.backbone.model.config.get_text_config().hidden_size)
        bias = like.new_zeros(tasks, ways)
        weight = like.new_zeros(tasks, ways, width)
        if self.start == "words":
            size = like.new_ones(tasks)
            if states is not None:
                batch = self._batches["support"]
                size = mean_by_task(states.detach().norm(dim=1), batch.owner, tasks)
            rows = torch.stack([word_rows(self.backbone, labels) for labels in each])
            own = [self.backbone.word_bias(firsts(self.backbone, y)) for y in each]
            if known := [bias for bias in own if bias is not None]:
                bias = torch.stack(known).to(like)
            return {WEIGHT: rows.to(like) * size[:, None, None], BIAS: bias, SCALE: size}
        if "support" not in self._batches:
            return {WEIGHT: weight, BIAS: bias}
        batch = self._batches["support"]
        place = batch.owner * ways + batch.targets
        counts = place.bincount(minlength=tasks * ways)
        if self.start == "prototypes":
            assert states is not None
            sums = states.new_zeros(tasks * ways, states.shape[1]).index_add(
                0, place, unit(states, self.temperature)
            )
            means = (sums / counts.clamp_min(1)[:, None]).reshape(tasks, ways, -1)
            weight, bias = 2 * means, -means.square().sum(-1)
        return {WEIGHT: weight, BIAS: bias.masked_fill(counts.view(tasks, ways) == 0, _NEVER)}


@dataclass(frozen=True, slots=True)
class SideLoss:
    """The loss of one side's texts, a sum of what its passes add: see `problem.parts`."""

    tasks: HeadTasks
    side: str

    @property
    def parts(self) -> list[Loss]:
        """The summands, of which one at a time need be in memory."""
        return self.tasks.losses(self.side)

    def __call__(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return each task's loss, shape (tasks,)."""
        return torch.stack([part(params) for part in self.parts]).sum(0)


@dataclass(eq=False)
class HeadedPredictor(Predictor):
    """Labels texts by one task's factors and head."""

    backbone: Backbone
    labels: Labels
    params: dict[str, Tensor]
    scale: float
    below: int
    temperature: float

    def __post_init__(self) -> None:
        self.trained_parameters = sum(value.numel() for value in self.params.values())

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the labels by the head."""
        unseen = [Example(str(i), t, self.labels.names[0], "", str(i)) for i, t in enumerate(texts)]
        own = {name: value[None] for name, value in self.params.items()}
        factors = {n: v for n, v in own.items() if not n.startswith("head.")}
        batch = compile_states(self.backbone, [(unseen, self.labels)], self.below)
        with torch.no_grad():
            states = pooled(self.backbone, batch, Adapter(factors, self.scale))
            logits = head_logits(self.backbone, states, own, batch.owner, self.temperature)
        return logits.float().log_softmax(1).clamp_min(LOG_ZERO).cpu()


def head_logits(
    backbone: Backbone,
    states: Tensor,
    params: Mapping[str, Tensor],
    owner: Tensor,
    temperature: float,
) -> Tensor:
    """Return ``z W + b`` with each text's own task's head, shape (texts, labels).

    A head of label words goes on as the model's own: its logits are scaled and capped as they are.
    """
    if SCALE in params:
        z = states / params[SCALE].index_select(0, owner)[:, None]
    else:
        z = unit(states, temperature)
    weight = params[WEIGHT].index_select(0, owner)
    logits: Tensor = (weight @ z[..., None])[..., 0] + params[BIAS].index_select(0, owner)
    return backbone.finish(logits) if SCALE in params else logits


def unit(states: Tensor, temperature: float) -> Tensor:
    """Scale vectors to length ``temperature ** -0.5``."""
    return torch.nn.functional.normalize(states, dim=1) * float(temperature**-0.5)


def word_rows(backbone: Backbone, labels: Labels) -> Tensor:
    """Return the language model head's row of each label word's first token, (labels, width)."""
    return backbone.word_rows(firsts(backbone, labels)).float()


def firsts(backbone: Backbone, labels: Labels) -> Tensor:
    """Return each label word's first token, shape (labels,)."""
    answers = [labels.template.answer(word) for word in labels.words]
    (pairs,) = encode_pairs(backbone.tokenizer, [":"], answers)
    return torch.tensor([int(p.tokens[p.answer_from]) for p in pairs], device=backbone.device)

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
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icl.learners.base import LOG_ZERO, Predictor
from icl.learners.gradient.algorithms.problem import spread
from icl.learners.gradient.base import Support, mean_by_task
from icl.learners.gradient.states import StateBatch, compile_states, pooled
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


class HeadTasks:
    """The losses of a meta-batch whose tasks each have a head, as a meta-algorithm asks for them.

    Args:
        backbone: the model.
        scale: of the LoRA factors.
        support: each task's support set and labels; equally many labels.
        query: each task's query set and labels, or None.
        start: the lowest adapted layer.
        begin: where heads begin.
        temperature: divides squared distances where heads begin at prototypes or at zero.
        frozen_body: compute states once, where the inner loop begins: it moves heads only.
    """

    def __init__(
        self,
        backbone: Backbone,
        scale: float,
        support: Sequence[Support],
        query: Sequence[Support] | None,
        start: int,
        begin: Begin,
        temperature: float,
        frozen_body: bool,
    ) -> None:
        self._backbone = backbone
        self._scale = scale
        self._labels = [labels for _, labels in support]
        self._begin = begin
        self._temperature = temperature
        self._frozen = frozen_body
        if begin == "words":
            for labels in self._labels:
                check_words(backbone.tokenizer, labels)
        self._batches: dict[str, StateBatch] = {}
        if any(len(examples) for examples, _ in support):
            self._batches["support"] = compile_states(backbone, support, start)
        if query is not None:
            self._batches["query"] = compile_states(backbone, query, start)

    def begin(self, start: Mapping[str, Tensor], tasks: int) -> dict[str, Tensor]:
        """Return the parameters where the inner loop begins: the body, the head, maybe states."""
        body = spread(start, tasks)
        states = {name: self._states(name, body) for name in self._batches}
        support = states.get("support")
        found = {**body, **self._first_head(support, next(iter(start.values())))}
        if self._frozen:
            found |= {f"{_STATES}{name}": value for name, value in states.items()}
        return found

    def support(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return each task's support loss, shape (tasks,)."""
        return self._loss("support", params)

    def query(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return each task's query loss, shape (tasks,)."""
        return self._loss("query", params)

    def logits(self, name: str, params: Mapping[str, Tensor]) -> Tensor:
        """Return the logits of one side's texts, shape (texts, labels)."""
        held = f"{_STATES}{name}"
        states = params[held] if held in params else self._states(name, params)
        return head_logits(
            self._backbone, states, params, self._batches[name].owner, self._temperature
        )

    def _loss(self, name: str, params: Mapping[str, Tensor]) -> Tensor:
        batch = self._batches[name]
        right = self.logits(name, params).log_softmax(1).gather(1, batch.targets[:, None])[:, 0]
        return mean_by_task(-right, batch.owner, batch.tasks)

    def _states(self, name: str, params: Mapping[str, Tensor]) -> Tensor:
        factors = {n: v for n, v in params.items() if not n.startswith(("head.", _STATES))}
        return pooled(self._backbone, self._batches[name], Adapter(factors, self._scale))

    def _first_head(self, states: Tensor | None, like: Tensor) -> dict[str, Tensor]:
        tasks, ways = len(self._labels), len(self._labels[0])
        width = int(self._backbone.model.config.get_text_config().hidden_size)
        bias = like.new_zeros(tasks, ways)
        weight = like.new_zeros(tasks, ways, width)
        if self._begin == "words":
            size = like.new_ones(tasks)
            if states is not None:
                batch = self._batches["support"]
                size = mean_by_task(states.detach().norm(dim=1), batch.owner, tasks)
            rows = torch.stack([word_rows(self._backbone, labels) for labels in self._labels])
            own = [self._backbone.word_bias(firsts(self._backbone, y)) for y in self._labels]
            if known := [bias for bias in own if bias is not None]:
                bias = torch.stack(known).to(like)
            return {WEIGHT: rows.to(like) * size[:, None, None], BIAS: bias, SCALE: size}
        if states is None:
            return {WEIGHT: weight, BIAS: bias}
        batch = self._batches["support"]
        place = batch.owner * ways + batch.targets
        counts = place.bincount(minlength=tasks * ways)
        if self._begin == "prototypes":
            sums = states.new_zeros(tasks * ways, states.shape[1]).index_add(
                0, place, unit(states, self._temperature)
            )
            means = (sums / counts.clamp_min(1)[:, None]).reshape(tasks, ways, -1)
            weight, bias = 2 * means, -means.square().sum(-1)
        return {WEIGHT: weight, BIAS: bias.masked_fill(counts.view(tasks, ways) == 0, _NEVER)}


class HeadedPredictor(Predictor):
    """Labels texts by one task's factors and head."""

    def __init__(
        self,
        backbone: Backbone,
        labels: Labels,
        params: dict[str, Tensor],
        scale: float,
        below: int,
        temperature: float,
    ) -> None:
        self._backbone = backbone
        self._labels = labels
        self._head = {n: v[None] for n, v in params.items() if n.startswith("head.")}
        factors = {n: v[None] for n, v in params.items() if not n.startswith("head.")}
        self._adapter = Adapter(factors, scale)
        self._below = below
        self._temperature = temperature
        self.trained_parameters = sum(value.numel() for value in params.values())

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the labels by the head."""
        unseen = [
            Example(str(i), t, self._labels.names[0], "", str(i)) for i, t in enumerate(texts)
        ]
        batch = compile_states(self._backbone, [(unseen, self._labels)], self._below)
        with torch.no_grad():
            states = pooled(self._backbone, batch, self._adapter)
            logits = head_logits(self._backbone, states, self._head, batch.owner, self._temperature)
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

"""`LoraMetaLearner`: a meta-learning algorithm over LoRA factors as a `MetaLearner`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from icl.episodes.episode import Episode
from icl.errors import IclError
from icl.learners.base import Choices, MetaLearner, Predictor
from icl.learners.gradient.algorithms import Joint, MetaAlgorithm, Problem
from icl.learners.gradient.algorithms.optimisers import inner_optimiser
from icl.learners.gradient.base import AdaptedPredictor, LoraParams, Support, WordLoss, rows_at_once
from icl.learners.gradient.known_gradient import with_gradients
from icl.learners.gradient.passes import passes
from icl.learners.gradient.task_head import BIAS, WEIGHT, Begin, HeadedPredictor, HeadTasks
from icl.learners.support import present_columns, uniform
from icl.models.adapters.lora import Adapter
from icl.models.adapters.lora_start import lowest_layer
from icl.models.memory import bytes_per_row
from icl.models.tokens import encode
from icl.tasks.task import Example, Labels
from icl.tools.amounts import Work, forward, trained

if TYPE_CHECKING:
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability

_WATCH_EVERY = 5  # outer steps between looks at losses before and after adaptation


class MetaParams(LoraParams):
    """The adapter, and the inner loop.

    Attributes:
        inner_steps, inner_rate: of the inner loop; where rates are learned, their first mean.
        inner_optimiser: ``sgd``, ``momentum`` or ``adam``.
        inner_beta: of momentum, or Adam's first.
        adapt_steps: inner steps on a test task; by default `inner_steps`.
        temperature: divides squared distances of a head that begins at prototypes, or at zero.
    """

    inner_steps: int = Field(default=3, ge=0)
    inner_rate: float = Field(default=0.03, gt=0)
    inner_optimiser: Literal["sgd", "momentum", "adam"] = "sgd"
    inner_beta: float = Field(default=0.9, ge=0, lt=1)
    adapt_steps: int | None = Field(default=None, ge=0)
    temperature: float = Field(default=0.1, gt=0)


class LoraMetaLearner(MetaLearner):
    """Learn a LoRA start, and maybe rates, from which few steps adapt to a task.

    A causal model scores the task's label words; an encoder, which has none, gets a linear head on
    its mean state, made anew for each task (`icl.learners.gradient.task_head`). Either way tasks of
    any number of ways share one set of meta-parameters. All tasks of a meta-batch with equally many
    ways run as one pass.

    Attributes:
        head: where a task's head begins; None for the label words themselves, without a head.
        moves_body: whether the inner loop moves the LoRA factors, or only the head.
        Algorithm: what is learned by; its fields take the parameters of the same names.
    """

    Params = MetaParams
    search: ClassVar[Choices] = {
        "training.learning_rate": (5e-4, 1e-3, 2e-3, 5e-3),
        "inner_rate": (0.01, 0.03, 0.1, 0.3),
        "inner_steps": (1, 3, 5),
    }
    Algorithm: ClassVar[type[MetaAlgorithm]]
    head: ClassVar[Begin | None] = None
    moves_body: ClassVar[bool] = True

    @classmethod
    def needs(cls, params: MetaParams) -> frozenset[Ability]:
        """LoRA factors."""
        return frozenset({"adapt"})

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: MetaParams) -> Work:
        """Take each inner step on the support set, then answer; a head alone moves for nothing."""
        steps = params.inner_steps if params.adapt_steps is None else params.adapt_steps
        one = passes(counter, episode, params)
        return one.adapted(steps) if cls.moves_body else one.adapted(0) + forward(one.support)

    @classmethod
    def training_work(
        cls, counter: TokenCounter, episodes: Sequence[Episode], params: MetaParams
    ) -> Work:
        """Add up the tasks of outer steps; frozen layers below run once for each."""
        each = [passes(counter, episode, params) for episode in episodes]
        return sum((p.below + cls.outer_work(p.support, p.query, params) for p in each), Work())

    @classmethod
    def outer_work(cls, support: float, query: float, params: MetaParams) -> Work:
        """Return what one task of an outer step takes in the adapted layers, with looks at losses.

        Args:
            support, query: tokens of a pass over each side.
            params: the method's.
        """
        # where a head alone moves there is one pass, whose states serve all steps
        algorithm = cls.make_algorithm(params) if cls.moves_body else Joint()
        steps = params.inner_steps if cls.moves_body else 0
        looks = trained(support) * steps + forward(support + 2 * query)
        return algorithm.work(support, query) + looks * (1 / _WATCH_EVERY)

    @classmethod
    def make_algorithm(cls, params: MetaParams) -> MetaAlgorithm:
        """Return the algorithm that the parameters describe."""
        named = {field.name for field in fields(cls.Algorithm)} & type(params).model_fields.keys()
        return cls.Algorithm(
            steps=params.inner_steps,
            rate=params.inner_rate,
            optimiser=inner_optimiser(params.inner_optimiser, params.inner_beta),
            **{name: getattr(params, name) for name in named},
        )

    def __init__(self, backbone: Backbone, params: MetaParams) -> None:
        """Draw the start, or read it from an adapter."""
        self.backbone = backbone
        self._params = params
        self.scale = params.spec(backbone).scale
        self.algorithm = self.make_algorithm(params)
        self.start = params.begin(backbone)
        self.below = lowest_layer(backbone, self.start)
        self._head: Begin | None = self.head
        if "score" not in backbone.can and self._head in (None, "words"):
            self._head = "zero"
        heads = {} if self._head is None else {n: torch.zeros(()) for n in (WEIGHT, BIAS)}
        self.learned = self.algorithm.learned({**self.start, **heads})
        for value in (*self.start.values(), *self.learned.values()):
            value.requires_grad_()
        self._step = 0
        self._done = 0.0

    def trainable_parameters(self) -> Mapping[str, Tensor]:
        """Return the LoRA factors of the start and whatever the algorithm learns beside them."""
        return {**self.start, **self.learned}

    def at_step(self, step: int, steps: int) -> None:
        """Note how far meta-training has come: some algorithms change on the way."""
        self._step, self._done = step, step / steps

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the outer loss on some episodes; its gradient is the algorithm's meta-gradient.

        Metrics: `support_loss` before each inner step as ``support_loss_0``, ``_1``, …, and every
        few steps the support loss after adaptation and the query loss before it.
        """
        return self._stepped(episodes, self.algorithm, watch=self._step % _WATCH_EVERY == 0)

    def fine_tuning_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean query loss at the start itself: plain training on many tasks.

        Raises:
            IclError: heads begin at zero, through which no gradient reaches the LoRA factors.
        """
        if self._head == "zero":
            raise IclError(
                f"The method {self.method!r} gives an encoder a head that begins at zero, under"
                " which plain training moves nothing; drop `training.fine_tune`."
            )
        return self._stepped(episodes, Joint(), watch=False)

    def memory_estimate(self, episodes: Sequence[Episode]) -> int:
        """Estimate the peak of `meta_loss` over the model itself, in bytes.

        A graph keeps about 1.6 times what a layer's widest point holds, for each token and adapted
        layer; second derivatives 5.5 times (measured on Gemma 3 270M, see docs/gradient.md). Losses
        of label words run in pieces (`rows_at_once`), of which one is in memory at a time.
        """
        support, query = (
            sum(
                len(row)
                for examples, labels in side
                for row in encode(
                    self.backbone.tokenizer, [labels.template.render(e.fields) for e in examples]
                )
            )
            for side in self.sides(episodes)
        )
        layers = self.backbone.depth - self.below
        row = bytes_per_row(self.backbone.model) * layers
        first, second = 1.6 * row, 5.5 * row
        piece = math.inf if self._head is not None else rows_at_once(self.backbone)
        outer = first * min(query, piece)
        if not (self.moves_body and self.algorithm.second_order):
            return round(max(first * min(support, piece), outer))
        if self.algorithm.checkpointed:
            return round(max(second * min(support, piece), outer))
        return round(max(second * support * max(self._params.inner_steps, 1), outer))

    def sides(self, episodes: Sequence[Episode]) -> tuple[list[Support], list[Support]]:
        """Return what the inner loop of meta-training sees, and what its outcome is judged by."""
        return [(e.support, e.labels) for e in episodes], [(e.query, e.labels) for e in episodes]

    def problem(self, support: Sequence[Support], query: Sequence[Support] | None) -> Problem:
        """Pose tasks with equally many ways to the algorithm, as losses of the LoRA factors."""
        if self._head is not None:
            tasks = HeadTasks(
                self.backbone,
                self.scale,
                support,
                query,
                self.below,
                self._head,
                self._params.temperature,
                frozen_body=not self.moves_body,
            )
            return Problem(len(support), tasks.support, tasks.query, tasks.begin, self._moves)
        return Problem(
            len(support),
            self._words(support) if all(len(x) for x, _ in support) else _no_loss,
            _no_loss if query is None else self._words(query),
        )

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Adapt to one support set; without support, predict from the start."""
        return self.adapt_batch([(support, labels)])[0]

    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Adapt to several support sets at once.

        Where only the support says what a label is, and it holds fewer than two labels, every label
        is alike, as for other heads.
        """
        found: dict[int, Predictor] = {}
        for group in _alike(tasks):
            some = [tasks[i] for i in group]
            problem = self.problem(some, None)
            start, learned = _values(self.start), _values(self.learned)
            if some[0][0]:
                params = self.algorithm.adapt(start, learned, problem)
            else:
                params = problem.begin(start, problem.tasks)
            for place, i in enumerate(group):
                if self._head in ("prototypes", "zero") and len(present_columns(*tasks[i])) < 2:
                    found[i] = uniform(tasks[i][1])
                    continue
                own = {
                    n: v[place].detach().clone() for n, v in params.items() if "states/" not in n
                }
                found[i] = self._predictor(tasks[i][1], own)
        return [found[i] for i in range(len(tasks))]

    def _predictor(self, labels: Labels, params: dict[str, Tensor]) -> Predictor:
        if self._head is None:
            return AdaptedPredictor(self.backbone, labels, Adapter(params, self.scale))
        return HeadedPredictor(
            self.backbone, labels, params, self.scale, self.below, self._params.temperature
        )

    def _stepped(
        self, episodes: Sequence[Episode], algorithm: MetaAlgorithm, *, watch: bool
    ) -> tuple[Tensor, Mapping[str, float]]:
        support, query = self.sides(episodes)
        start, learned = _values(self.start), _values(self.learned)
        total: dict[str, Tensor] = {}
        metrics: dict[str, float] = {}
        loss = next(iter(start.values())).new_zeros(())
        for group in _alike(support):
            share = len(group) / len(episodes)
            problem = self.problem([support[i] for i in group], [query[i] for i in group])
            step = algorithm.meta_step(start, learned, problem, self._done)
            loss = loss + share * step.loss
            seen = {f"support_loss_{k}": value for k, value in enumerate(step.curve)}
            if watch and support[group[0]][0]:
                end = step.end or self.algorithm.adapt(start, learned, problem)
                seen |= self._watched(start, end, problem)
            for name, number in seen.items():
                metrics[name] = metrics.get(name, 0.0) + share * number
            for name, value in step.gradients.items():
                total[name] = total[name] + share * value if name in total else share * value
        found = with_gradients(loss, total, self.trainable_parameters())
        return found, {"query_loss": float(loss), **metrics}

    def _watched(
        self, start: Mapping[str, Tensor], end: Mapping[str, Tensor], problem: Problem
    ) -> dict[str, float]:
        with torch.no_grad():
            begin = problem.begin(start, problem.tasks)
            return {
                "support_loss_after": float(problem.support(end).mean()),
                "query_loss_before": float(problem.query(begin).mean()),
                "query_loss_after": float(problem.query(end).mean()),
            }

    def _words(self, tasks: Sequence[Support]) -> WordLoss:
        return WordLoss(self.backbone, tasks, self.start, self.scale)

    def _moves(self, name: str) -> bool:
        return name in (WEIGHT, BIAS) or (self.moves_body and name in self.start)


def _no_loss(params: Mapping[str, Tensor]) -> Tensor:
    """Stand for a loss without examples."""
    raise AssertionError("there are no examples to take a loss on")


def _values(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in params.items()}


def _alike(tasks: Sequence[Support]) -> list[list[int]]:
    """Group tasks that can run as one pass: equally many ways, and all with support or none."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for i, (support, labels) in enumerate(tasks):
        groups.setdefault((len(labels), bool(support)), []).append(i)
    return list(groups.values())

"""The contract of a meta-learning algorithm, and the inner loop that most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from icl.learners.gradient.algorithms.optimisers import InnerOptimiser
from icl.learners.gradient.algorithms.problem import Loss, Params, Problem
from icl.learners.gradient.algorithms.unroll import Trajectory, descend, gradient
from icl.tools.amounts import Work, trained

CURVED = 4.0  # passes' worth of arithmetic in a second derivative, beside the forward pass
RATE = "rate/"  # before the names of learned rates among the meta-parameters


@dataclass(frozen=True, slots=True)
class MetaStep:
    """The meta-gradient on one meta-batch.

    Attributes:
        loss: the mean outer objective over tasks, a scalar.
        gradients: by the names of the meta-parameters, in their shapes.
        curve: mean support loss before each inner step.
        end: where `MetaAlgorithm.adapt` would end, if the step came by there; else None.
    """

    loss: Tensor
    gradients: Mapping[str, Tensor]
    curve: tuple[float, ...]
    end: Params | None = None


@dataclass(frozen=True, slots=True)
class MetaAlgorithm(ABC):
    """How a start is learned from which few steps adapt.

    Meta-parameters are a mapping: the start by its own names, and whatever else an algorithm learns
    under names of its own (`learned`).

    Attributes:
        steps: inner steps in meta-training.
        rate: of the inner steps; where rates are learned, their mean at first.
        optimiser: of the inner steps.
        adapt_steps: inner steps on a new task; None for as many as in meta-training.
        second_order: whether second derivatives are ever taken.
    """

    steps: int = 1
    rate: float = 0.01
    optimiser: InnerOptimiser = field(default_factory=InnerOptimiser)
    adapt_steps: int | None = None
    second_order: ClassVar[bool] = False

    @property
    def checkpointed(self) -> bool:
        """Tell whether no more than one inner step's graph is in memory at a time."""
        return True

    def learned(self, start: Params) -> dict[str, Tensor]:
        """Return the first values of what is learned beside the start, by name."""
        return {}

    def rates(self, meta: Params, step: int, moved: list[str]) -> dict[str, Tensor]:
        """Return each moved parameter's rate at an inner step, broadcastable to its shape."""
        some = torch.tensor(self.rate, dtype=torch.float64)  # a number: takes its partner's dtype
        return dict.fromkeys(moved, some)

    def work(self, support: float, query: float) -> Work:
        """Return what one task of an outer step takes, by the tokens of a pass over each side.

        It is, unless an algorithm says otherwise, that of the inner loop and of the query gradient
        where it ended.
        """
        return trained(support) * self.steps + trained(query)

    @abstractmethod
    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the meta-gradient.

        Args:
            start: the start, without a task axis.
            learned: what else is learned.
            problem: the tasks.
            done: how much of meta-training is over, from 0 to 1, for what changes on the way.
        """

    def adapt(self, start: Params, learned: Params, problem: Problem) -> dict[str, Tensor]:
        """Adapt to each task's support set; return parameters with a task axis, no graph."""
        begin = problem.begin(start, problem.tasks)
        steps = self.steps if self.adapt_steps is None else self.adapt_steps
        return self.descend(begin, learned, problem, [self.inner_loss(problem, begin)] * steps).end

    def inner_loss(self, problem: Problem, begin: Params) -> Loss:
        """Return what each inner step on a new task descends."""
        return problem.support

    def descend(
        self,
        begin: Params,
        learned: Params,
        problem: Problem,
        losses: list[Loss],
        *,
        keep_graphs: bool = False,
    ) -> Trajectory:
        """Take one inner step on each of `losses`."""
        moved = problem.moved(begin)
        return descend(
            losses,
            begin,
            moved,
            self.optimiser,
            lambda step: self.rates(learned, step, moved),
            keep_graphs=keep_graphs,
        )


def outer_gradient(loss: Loss, point: Params, weight: float) -> tuple[dict[str, Tensor], Tensor]:
    """Return the gradient of ``weight * sum(loss)`` for all parameters, and the losses."""
    found, losses = gradient(loss, point, list(point))
    return {name: value * weight for name, value in found.items()}, losses

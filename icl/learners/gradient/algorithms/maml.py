"""MAML, first-order MAML (Finn, Abbeel & Levine 2017, arXiv 1703.03400), and joint training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from icl.learners.gradient.algorithms.algorithm import (
    CURVED,
    MetaAlgorithm,
    MetaStep,
    outer_gradient,
)
from icl.learners.gradient.algorithms.problem import Params, Problem, pull
from icl.learners.gradient.algorithms.unroll import pull_back
from icl.tools.amounts import Work, trained


@dataclass(frozen=True, slots=True)
class MAML(MetaAlgorithm):
    """Minimise the query loss after the inner loop, through the inner loop.

    ``theta_k+1 = theta_k - rate * grad L_D(theta_k)``; the meta-gradient is
    ``d/dtheta sum_i L_Q(theta_K)``. For the quadratic losses of the tests it is
    ``(I - rate H)^K G (theta_K - b)``.

    Attributes:
        checkpoint: build each inner step's graph again in the backward sweep instead of keeping
            all of them: the same gradient, memory that does not grow with the steps, and about a
            third more time.
    """

    checkpoint: bool = True
    second_order: ClassVar[bool] = True

    @property
    def checkpointed(self) -> bool:
        """Tell whether no more than one inner step's graph is in memory at a time."""
        return self.checkpoint

    def work(self, support: float, query: float) -> Work:
        """Go back through each inner step, of second order."""
        back = trained(support, CURVED) * (self.steps * self.second_order)
        return MetaAlgorithm.work(self, support, query) + back

    def weights(self, done: float) -> Mapping[int, float]:
        """Return the weight of the query loss at each point of the inner loop."""
        return {self.steps: 1.0}

    def is_second_order(self, done: float) -> bool:
        """Tell whether to differentiate through the inner gradients."""
        return self.second_order

    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the meta-gradient; see `MetaAlgorithm.meta_step`."""
        leaves, begin = problem.from_leaves(start)
        second = self.is_second_order(done)
        path = self.descend(
            begin,
            learned,
            problem,
            [problem.support] * self.steps,
            keep_graphs=second and not self.checkpoint,
        )
        points = [*(step.point for step in path.steps), path.end]
        at: dict[int, dict[str, Tensor]] = {}
        loss = points[-1][next(iter(points[-1]))].new_zeros(())
        for number, weight in self.weights(done).items():
            at[number], losses = outer_gradient(
                problem.query, points[number], weight / problem.tasks
            )
            loss = loss + weight * losses.mean()
        moved = problem.moved(begin)
        back, spare = pull_back(
            path,
            moved,
            self.optimiser,
            lambda meta, step: self.rates(meta, step, moved),
            learned,
            at,
            second_order=second,
        )
        gradients = {**pull(leaves, begin, back), **spare}
        adapted = self.adapt_steps in (None, self.steps)
        return MetaStep(loss, gradients, path.curve, path.end if adapted else None)


@dataclass(frozen=True, slots=True)
class FOMAML(MAML):
    """MAML without the derivative of the inner gradients (section 5.2): ``grad L_Q(theta_K)``."""

    second_order: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Joint(MetaAlgorithm):
    """Joint training, the loss of all tasks at the start itself: ``d/dtheta sum_i L_Q(theta)``.

    The inner loop is for new tasks only; it is that of the other algorithms.
    """

    def work(self, support: float, query: float) -> Work:
        """Pass over all examples once."""
        return trained(support + query)

    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the plain gradient; see `MetaAlgorithm.meta_step`."""
        found = FOMAML(steps=0).meta_step(start, learned, problem, done)
        return replace(found, end=None)  # new tasks take steps

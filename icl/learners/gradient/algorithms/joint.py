"""Joint training: no inner loop while the start is trained."""

from __future__ import annotations

from dataclasses import dataclass

from icl.learners.gradient.algorithms.algorithm import MetaAlgorithm, MetaStep
from icl.learners.gradient.algorithms.maml import FOMAML
from icl.learners.gradient.algorithms.problem import Params, Problem
from icl.tools.amounts import Work, trained


@dataclass(frozen=True, slots=True)
class Joint(MetaAlgorithm):
    """Descend the loss of all tasks at the start itself: ``d/dtheta sum_i L_Q(theta)``.

    The inner loop is for new tasks only; it is that of the other algorithms.
    """

    def work(self, support: float, query: float) -> Work:
        """Pass over all examples once."""
        return trained(support + query)

    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the plain gradient; see `MetaAlgorithm.meta_step`."""
        return FOMAML(steps=0).meta_step(start, learned, problem, done)

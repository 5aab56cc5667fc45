"""Reptile (Nichol, Achiam & Schulman 2018, arXiv 1803.02999)."""

from __future__ import annotations

from dataclasses import dataclass

from icl.learners.gradient.algorithms.algorithm import MetaAlgorithm, MetaStep
from icl.learners.gradient.algorithms.problem import Params, Problem, pull
from icl.tools.amounts import Work, trained


@dataclass(frozen=True, slots=True)
class Reptile(MetaAlgorithm):
    """Move the start towards where training on each task ends.

    The meta-gradient is ``mean_i (theta - theta_K) / rate``; with outer descent at ``e * rate`` it
    is the paper's ``theta += e * mean(theta_K - theta)``. The steps take the support and the query
    set in turn, as two minibatches of the task's data: Reptile's gain over joint training is the
    agreement of gradients of different minibatches (section 5.1). The loss is the query loss, or
    the last minibatch's, before its last step.
    """

    def work(self, support: float, query: float) -> Work:
        """Step on either side in turn; there is no gradient beside those of the steps."""
        return trained(support) * -(-self.steps // 2) + trained(query) * (self.steps // 2)

    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the meta-gradient; see `MetaAlgorithm.meta_step`."""
        leaves, begin = problem.from_leaves(start)
        losses = [(problem.support, problem.query)[k % 2] for k in range(self.steps)]
        path = self.descend(begin, learned, problem, losses)
        way = {n: (begin[n].detach() - path.end[n]) / (self.rate * problem.tasks) for n in path.end}
        last = path.steps[-1].before.mean()
        return MetaStep(last, pull(leaves, begin, way), path.curve)

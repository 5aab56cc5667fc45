"""MAML++ (Antoniou, Edwards & Storkey 2019, arXiv 1810.09502)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from icl.learners.gradient.algorithms.algorithm import CURVED, RATE, MetaAlgorithm
from icl.learners.gradient.algorithms.maml import MAML
from icl.learners.gradient.algorithms.problem import Params
from icl.tools.amounts import Work, trained


@dataclass(frozen=True, slots=True)
class MAMLPlusPlus(MAML):
    """MAML with learned rates, a loss at every step, and derivatives that begin first-order.

    - A rate for each parameter tensor and each step is learned (section 4, LSLR).
    - For the first `anneal` of meta-training the query loss is taken after every inner step.
      Weights start at 1/K; those before the last step fall linearly, to no less than .03/K, and the
      last one takes what they lose (MSL; the floor is the reference code's). Then the last loss
      stands alone, as there: one pass over the queries instead of K.
    - The derivative through inner gradients is left out for the first `first_order` of
      meta-training (DA).

    The cosine outer rate is the trainer's: ``schedule: cosine``.

    Attributes:
        anneal, first_order: shares of meta-training, from 0 to 1.
    """

    anneal: float = 0.2
    first_order: float = 0.3

    def learned(self, start: Params) -> dict[str, Tensor]:
        """Return `rate` for each tensor and step, shape (steps,)."""
        return {f"{RATE}{n}": v.new_full((self.steps,), self.rate) for n, v in start.items()}

    def rates(self, meta: Params, step: int, moved: list[str]) -> dict[str, Tensor]:
        """Return this step's rates; a step beyond those of meta-training has the last one's."""
        return {name: meta[f"{RATE}{name}"][min(step, self.steps - 1)] for name in moved}

    def work(self, support: float, query: float) -> Work:
        """Take the query loss after every step for a while, and for a while no second order."""
        early = trained(query) * ((self.steps - 1) * self.anneal)
        back = trained(support, CURVED) * (self.steps * (1 - self.first_order))
        return MetaAlgorithm.work(self, support, query) + early + back

    def weights(self, done: float) -> Mapping[int, float]:
        """Return the weight of the query loss after each step; they add up to one."""
        if done >= self.anneal:
            return {self.steps: 1.0}
        share = 1.0 / max(self.steps, 1)
        early = share * max(1 - done / self.anneal, 0.03)
        weights = dict.fromkeys(range(1, self.steps), early)
        return {**weights, self.steps: 1.0 - sum(weights.values())}

    def is_second_order(self, done: float) -> bool:
        """First order at the beginning, second order from then on."""
        return done >= self.first_order

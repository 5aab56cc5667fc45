"""Implicit MAML (Rajeswaran, Finn, Kakade & Levine 2019, arXiv 1909.04630)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from icl.learners.gradient.algorithms.algorithm import (
    CURVED,
    MetaAlgorithm,
    MetaStep,
    outer_gradient,
)
from icl.learners.gradient.algorithms.problem import Loss, Params, Problem, pull
from icl.learners.gradient.algorithms.unroll import hessian_vector
from icl.tools.amounts import Work, trained


@dataclass(frozen=True, slots=True)
class IMAML(MetaAlgorithm):
    """Differentiate the regularised optimum instead of the way to it.

    ``phi = argmin L_D(phi) + strength/2 ||phi - theta||^2`` is approached by the inner steps; the
    meta-gradient ``(I + Hess L_D(phi) / strength)^-1 grad L_Q(phi)`` by conjugate gradients. Memory
    does not depend on the inner steps, nor does the gradient on the inner optimiser. Over LoRA the
    proximal term also picks one of the factor pairs (RA, B R^-1) that give the same product.

    Attributes:
        strength: lambda.
        solver_steps: conjugate gradient steps; one Hessian-vector product each.
    """

    strength: float = 2.0
    solver_steps: int = 5
    second_order: ClassVar[bool] = True

    def work(self, support: float, query: float) -> Work:
        """Solve for the implicit gradient where the inner loop ended."""
        solved = trained(support, CURVED) * self.solver_steps
        return MetaAlgorithm.work(self, support, query) + solved

    def inner_loss(self, problem: Problem, begin: Params) -> Loss:
        """Return the inner objective: the loss and the proximal term."""
        anchor = {name: begin[name].detach() for name in problem.moved(begin)}

        def objective(params: Params) -> Tensor:
            far = sum((params[n] - a).square().flatten(1).sum(1) for n, a in anchor.items())
            return problem.support(params) + self.strength / 2 * far

        return objective

    def meta_step(self, start: Params, learned: Params, problem: Problem, done: float) -> MetaStep:
        """Return the meta-gradient; see `MetaAlgorithm.meta_step`."""
        leaves, begin = problem.from_leaves(start)
        objective = self.inner_loss(problem, begin)
        path = self.descend(begin, learned, problem, [objective] * self.steps)
        direct, losses = outer_gradient(problem.query, path.end, 1 / problem.tasks)
        wanted = {name: direct[name] for name in problem.moved(begin)}
        solved = self._solve(problem.support, path.end, wanted)
        # what is held enters through the query loss and through where the optimum lies
        held = {n: v for n, v in direct.items() if n not in solved}
        if held:
            mixed = hessian_vector(problem.support, path.end, solved)
            held = {n: v - mixed[n] / self.strength for n, v in held.items()}
        return MetaStep(losses.mean(), pull(leaves, begin, {**held, **solved}), path.curve)

    def _solve(self, loss: Loss, point: Params, wanted: Params) -> dict[str, Tensor]:
        """Solve ``(I + H / strength) x = wanted`` for each task by conjugate gradients."""
        x = {n: torch.zeros_like(v) for n, v in wanted.items()}
        residual = dict(wanted)
        direction = dict(wanted)
        size = _dot(residual, residual)
        for number in range(self.solver_steps):
            curved = hessian_vector(loss, point, direction)
            image = {n: d + curved[n] / self.strength for n, d in direction.items()}
            bend = _dot(direction, image)
            # where the Hessian bends down, a task stays where it is, or takes the plain gradient
            stay = torch.zeros_like(size) if number else torch.ones_like(size)
            go = torch.where(bend > 0, size / bend.where(bend > 0, 1), stay)
            x = _along(x, go, direction)
            residual = _along(residual, -go, image)
            new = _dot(residual, residual)
            ratio = torch.where(size > 0, new / size.where(size > 0, 1), 0)
            direction = _along(residual, ratio, direction)
            size = new
        return x


def _dot(a: Params, b: Params) -> Tensor:
    """Return each task's inner product, shape (tasks,)."""
    parts = [(v * b[n]).flatten(1).sum(1) for n, v in a.items()]
    return torch.stack(parts).sum(0)


def _along(a: Params, factor: Tensor, b: Params) -> dict[str, Tensor]:
    """Return ``a + factor * b`` with a factor for each task."""
    return {n: v + factor.reshape(-1, *[1] * (v.ndim - 1)) * b[n] for n, v in a.items()}

"""Do this model's meta-gradients come out right? Asked before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icl.episodes import Episode
from icl.learners.gradient.algorithms import MAML, Params, Problem
from icl.learners.gradient.algorithms.problem import gradients
from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.models.weights.in_dtype import held_in

if TYPE_CHECKING:
    from icl.models.backbone import Backbone
    from icl.models.base import Model

_HALF = 0.2  # how far bfloat16 and float16 may lie from float64, relative
_HALVES = (torch.bfloat16, torch.float16)
_FLOAT32 = 5e-3
_EXACT = 2e-3  # in float64, where some models still have norms in float32
_SLOPE = 2e-2  # between a derivative and a difference quotient
_STEP = 3e-4  # of the difference quotient, along the unit gradient


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a learner's gradients.

    Attributes:
        name: the question.
        error: the relative difference that was found, or None where it could not be asked.
        limit: the most that is right.
        note: what was compared, or why not.
    """

    name: str
    error: float | None
    limit: float
    note: str

    @property
    def passed(self) -> bool:
        """Tell whether the gradients are right in this respect."""
        return self.error is not None and self.error <= self.limit


def kernel(backbone: Model) -> str:
    """Name the attention kernel that gradient learners use, which has a double backward."""
    if backbone.bidirectional:
        return "plain products where a graph is wanted, fused (SDPA) where none is"
    fused = "" if backbone.device.type != "cpu" else "fused in first order, "
    return f"packed trie attention: {fused}plain products for second derivatives (SDPA has none)"


def check_gradients(learner: LoraMetaLearner, episodes: Sequence[Episode]) -> list[Check]:
    """Check a learner's meta-gradient on a few episodes with equally many ways.

    The model is taken to float64 for the reference and back. Compared are, as relative differences
    of the whole gradient: the model's own precision against float64; a meta-batch against its tasks
    alone; the sweep against one graph over all inner steps; graphs built again against kept ones;
    and a difference quotient of the adapted loss against its derivative.

    Args:
        learner: over the model in question. Checks begin a little off its start, where no factor
            is zero; the learner is left as it was.
        episodes: two or more.
    """
    backbone = learner.backbone
    dtype = next(backbone.model.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    start = {
        n: (v.detach().cpu() + 0.01 * torch.randn(v.shape, generator=generator)).to(v.device)
        for n, v in learner.start.items()
    }
    learned = {n: v.detach() for n, v in learner.learned.items()}
    algorithm = learner.algorithm
    # 8 bits round activations too, and float16 is what they multiply in
    rounds = any(type(m).__name__ == "Linear8bitLt" for m in backbone.model.modules())
    own = algorithm.meta_step(start, learned, _problem(learner, episodes), 1.0).gradients
    with _in_float64(backbone):
        start, learned = _double(start), _double(learned)
        problem = _problem(learner, episodes)
        exact = algorithm.meta_step(start, learned, problem, 1.0).gradients
        alone = [
            algorithm.meta_step(start, learned, _problem(learner, [e]), 1.0).gradients
            for e in episodes
        ]
        checks = [
            Check(
                f"precision ({str(dtype).removeprefix('torch.')})",
                _apart(own, exact),
                _HALF if dtype in _HALVES or rounds else _FLOAT32,
                "against the same in float64",
            ),
            Check(
                "batching",
                _apart({n: torch.stack([g[n] for g in alone]).mean(0) for n in exact}, exact),
                _EXACT,
                f"{len(episodes)} tasks in one pass against one after the other",
            ),
        ]
        if isinstance(algorithm, MAML):
            checks += _unrolled_checks(algorithm, start, learned, problem, exact)
    return checks


def _unrolled_checks(
    algorithm: MAML, start: Params, learned: Params, problem: Problem, exact: Params
) -> list[Check]:
    order = "second order" if algorithm.second_order else "first order"
    plain = _one_graph(algorithm, start, learned, problem)
    checks = [Check(order, _apart(plain, exact), _EXACT, "against one graph over all inner steps")]
    if not algorithm.second_order:
        return checks
    other = replace(algorithm, checkpoint=not algorithm.checkpoint)
    again = other.meta_step(start, learned, problem, 1.0).gradients
    note = "inner steps' graphs built again against kept"
    checks.append(Check("checkpointing", _apart(again, exact), _EXACT, note))
    size = sum(float(v.square().sum()) for v in exact.values()) ** 0.5
    step = _STEP / size if size else 0.0

    def loss(sign: int) -> float:
        there = {n: v + sign * step * exact[n] for n, v in {**start, **learned}.items()}
        found = algorithm.meta_step(
            {n: there[n] for n in start}, {n: there[n] for n in learned}, problem, 1.0
        )
        return float(found.loss)

    slope = (loss(1) - loss(-1)) / (2 * _STEP)
    error = abs(slope - size) / size if size else None
    note = "the adapted loss's derivative along its gradient against a difference quotient"
    return [*checks, Check("differences", error, _SLOPE, note)]


def _problem(learner: LoraMetaLearner, episodes: Sequence[Episode]) -> Problem:
    return learner.problem(*learner.sides(episodes))


def _one_graph(
    algorithm: MAML, start: Params, learned: Params, problem: Problem
) -> dict[str, Tensor]:
    """Return the meta-gradient by a plain loop with one graph: the textbook's way."""
    leaves = {n: v.detach().requires_grad_() for n, v in {**start, **learned}.items()}
    rates = {n: leaves[n] for n in learned}
    begin = problem.begin({n: leaves[n] for n in start}, problem.tasks)
    # copies: the inner gradient holds a head fixed that was made of the body
    point = {
        n: v.clone() if v.requires_grad else v.detach().requires_grad_() for n, v in begin.items()
    }
    moved = problem.moved(point)
    state = algorithm.optimiser.begin({n: point[n] for n in moved})
    weights = algorithm.weights(1.0)
    total = next(iter(leaves.values())).new_zeros(())
    for k in range(algorithm.steps + 1):
        if k in weights:
            total = total + weights[k] * problem.query(point).mean()
        if k < algorithm.steps:
            own = {n: point[n] for n in moved}
            found = gradients(
                [problem.support(point).sum()],
                own,
                create_graph=algorithm.second_order,
                retain_graph=True,
            )
            new, state = algorithm.optimiser.update(
                own, found, state, algorithm.rates(rates, k, moved), k
            )
            point = {**point, **new}
    return gradients([total], leaves)


@contextmanager
def _in_float64(backbone: Backbone) -> Iterator[None]:
    """Hold a model in float64 for a while."""
    backbone.trunks.clear()
    try:
        with held_in(torch.float64, backbone.model, torch.Tensor.is_floating_point):
            yield
    finally:
        backbone.trunks.clear()


def _double(params: Params) -> dict[str, Tensor]:
    return {n: v.double() for n, v in params.items()}


def _apart(a: Params, b: Params) -> float:
    """Return the relative difference of two gradients, over all tensors together."""
    off = sum(float((a[n].double() - v.double()).square().sum()) for n, v in b.items())
    size = sum(float(v.double().square().sum()) for v in b.values())
    return float((off / size) ** 0.5) if size else float(off > 0)

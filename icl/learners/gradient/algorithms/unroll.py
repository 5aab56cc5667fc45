"""The inner loop and the derivative through it, one step in memory at a time.

Forward: ``theta_k+1, s_k+1 = U(theta_k, s_k, g_k, rates)`` with ``g_k = grad L(theta_k)``.
Backward, from the last step to the first: pull the cotangents through U, which is elementwise and
cheap, and the one that arrives at ``g_k`` through the gradient itself, which is a Hessian-vector
product. Only the points ``theta_k`` are kept (a LoRA adapter each), and the graph of a step is
built again when the backward sweep comes to it: memory does not grow with the number of steps but
by that much, nor, where a loss is a sum (`parts`), with its examples. The backward of each step
runs while its parameters are the ones in use, so nothing is recomputed with others. Keeping the
graphs instead (`keep_graphs`) saves the second run for memory that does grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from icl.learners.gradient.algorithms.optimisers import InnerOptimiser
from icl.learners.gradient.algorithms.problem import Loss, Params, gradients, parts, pull

Rates = Callable[[Params, int], Mapping[str, Tensor]]  # meta-parameters, step -> rates by name


@dataclass(frozen=True, slots=True)
class Step:
    """What the backward sweep needs of one inner step.

    Attributes:
        loss: what the step descended on.
        point: all parameters before the step, with a task axis, detached.
        state: the optimiser's state before it.
        gradient: of the loss with respect to the moved parameters.
        before: each task's loss at `point`, shape (tasks,), no graph.
        graph: leaves and gradient with their graph, where graphs are kept.
    """

    loss: Loss
    point: Params
    state: Params
    gradient: Params
    before: Tensor
    graph: tuple[Params, Params] | None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """An inner loop: its steps and where it ended, detached."""

    steps: tuple[Step, ...]
    end: dict[str, Tensor]

    @property
    def curve(self) -> tuple[float, ...]:
        """The mean support loss before each inner step."""
        return tuple(float(step.before.mean()) for step in self.steps)


def gradient(loss: Loss, point: Params, names: list[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the first-order gradient of the summed losses at a point, and each task's loss."""
    leaves = {name: value.detach().requires_grad_(name in names) for name, value in point.items()}
    total: dict[str, Tensor] = {}
    whole: Tensor | None = None
    for part in parts(loss):
        losses = part(leaves)
        more = gradients([losses.sum()], {n: leaves[n] for n in names})
        total = _add(total, more) if total else more
        whole = losses.detach() if whole is None else whole + losses.detach()
    assert whole is not None
    return total, whole


def _with_graph(loss: Loss, point: Params, names: list[str]) -> tuple[Params, Params, Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in point.items()}
    losses = loss(leaves)
    found = gradients([losses.sum()], {n: leaves[n] for n in names}, create_graph=True)
    return leaves, found, losses.detach()


def hessian_vector(loss: Loss, point: Params, vector: Params) -> dict[str, Tensor]:
    """Return the Hessian of the summed losses times a vector, by reverse over reverse.

    Args:
        loss: maps parameters with a task axis to losses, shape (tasks,).
        point: where, by name, each of shape (tasks, ...).
        vector: for some of the names, of the same shapes; zero for the others.

    Returns:
        The product for every name of `point`. Tasks do not meet, so it is the product with each
        task's own Hessian.
    """
    total: dict[str, Tensor] = {}
    for part in parts(loss):
        leaves, live, _ = _with_graph(part, point, list(vector))
        more = pull(leaves, live, vector)
        del leaves, live
        total = _add(total, more) if total else more
    return total


def descend(
    losses: list[Loss],
    begin: Params,
    moved: list[str],
    optimiser: InnerOptimiser,
    rates: Callable[[int], Mapping[str, Tensor]],
    *,
    keep_graphs: bool = False,
) -> Trajectory:
    """Take one inner step on each of `losses`, from `begin`, moving the named parameters.

    Args:
        losses: what each step descends on.
        begin: parameters with a task axis.
        moved: the names that move.
        optimiser: how they move.
        rates: maps a step's number to the rates by name.
        keep_graphs: keep each step's graph for the backward sweep instead of building it again.
    """
    point = {name: value.detach() for name, value in begin.items()}
    state = optimiser.begin({name: point[name] for name in moved})
    steps = []
    for number, loss in enumerate(losses):
        graph = None
        if keep_graphs:
            leaves, live, before = _with_graph(loss, point, moved)
            found = {name: value.detach() for name, value in live.items()}
            graph = (leaves, live)
        else:
            found, before = gradient(loss, point, moved)
        steps.append(Step(loss, point, state, found, before, graph))
        with torch.no_grad():
            new, state = optimiser.update(
                {name: point[name] for name in moved}, found, state, rates(number), number
            )
        point = {**point, **new}
    return Trajectory(tuple(steps), point)


def pull_back(
    trajectory: Trajectory,
    moved: list[str],
    optimiser: InnerOptimiser,
    rates: Rates,
    meta: Params,
    at: Mapping[int, Params],
    *,
    second_order: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the derivative of an outer objective through the inner loop.

    Args:
        trajectory: what `descend` returned.
        moved, optimiser: as they were given to `descend`.
        rates: maps (meta-parameters, step) to the rates, differentiable in the former.
        meta: the meta-parameters that the rates come from; empty where rates are fixed.
        at: the objective's gradient at point k for each k that it looks at, ``len(steps)`` for
            the end.
        second_order: take the derivative through the inner gradients as well.

    Returns:
        Derivatives by name: with respect to the parameters where the inner loop began, with a task
        axis, and with respect to the meta-parameters.
    """
    last = len(trajectory.steps)
    total = {n: torch.zeros_like(v) for n, v in trajectory.end.items()}
    total = _add(total, at.get(last, {}))
    spare = {n: torch.zeros_like(v) for n, v in meta.items()}
    state: Params | None = None
    for number in reversed(range(last)):
        step = trajectory.steps[number]
        inputs = {
            "p": {n: step.point[n].detach().requires_grad_() for n in moved},
            "g": {n: step.gradient[n].detach().requires_grad_() for n in moved},
            "s": {n: v.detach().requires_grad_() for n, v in step.state.items()},
            "m": {n: v.detach().requires_grad_() for n, v in meta.items()},
        }
        new, new_state = optimiser.update(
            inputs["p"], inputs["g"], inputs["s"], rates(inputs["m"], number), number
        )
        outputs = [new[n] for n in moved]
        vectors = [total[n] for n in moved]
        if state is not None:
            outputs += [new_state[n] for n in state]
            vectors += list(state.values())
        flat = {(kind, n): value for kind, group in inputs.items() for n, value in group.items()}
        back: dict[str, dict[str, Tensor]] = {kind: {} for kind in inputs}
        for (kind, n), value in gradients(outputs, flat, vectors).items():
            back[kind][n] = value
        total |= back["p"]
        state = back["s"]
        spare = _add(spare, back["m"])
        if second_order:
            curved = (
                hessian_vector(step.loss, step.point, back["g"])
                if step.graph is None
                else pull(*step.graph, back["g"])
            )
            total = _add(total, curved)
        total = _add(total, at.get(number, {}))
    return total, spare


def _add(total: Params, more: Params) -> dict[str, Tensor]:
    return {n: v + more[n] if n in more else v for n, v in total.items()}

"""Linear heads: logistic regression and ridge, exact, batched over tasks, strength by support.

In float64, so that answers do not depend on how tasks are batched. With fewer examples than
dimensions everything is solved in the support's span: an L2-penalised solution lies there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.learners.embedding.heads.fitted import Fitted, one_hot

_TOLERANCE = 1e-8
_ROUGHLY = 1e-4  # enough to compare strengths by
_MAX_STEPS = 5000


def apply(queries: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``x W + b`` in float32: (tasks, q, width) -> (tasks, q, ways)."""
    return (queries.to(weight.dtype) @ weight + bias[:, None]).float()


def fitted(weight: Tensor, bias: Tensor) -> Fitted:
    """Return the heads of some tasks by their maps, (tasks, width, ways) and (tasks, ways)."""
    return Fitted(apply, (weight, bias), trained=weight[0].numel() + bias[0].numel())


def _span(support: Tensor) -> tuple[Tensor, Tensor]:
    """Return the support's coordinates, (tasks, n, r), and its basis, (tasks, width, r)."""
    if support.shape[1] >= support.shape[2]:
        basis = torch.eye(support.shape[2], dtype=support.dtype, device=support.device)
        return support, basis.expand(len(support), -1, -1)
    basis, triangle = torch.linalg.qr(support.transpose(1, 2))
    return triangle.transpose(1, 2), basis


def logistic(
    support: Tensor,
    targets: Tensor,
    ways: int,
    strength: float | Tensor = 1.0,
    tolerance: float = _TOLERANCE,
) -> Fitted:
    """Multinomial logistic regression as scikit-learn's: ``C sum_i CE_i + ||W||^2 / 2``.

    The bias is free of penalty; two ways are penalised as scikit-learn's one weight vector.

    Args:
        support: shape (tasks, n, width).
        targets: columns, shape (tasks, n).
        ways: the number of labels.
        strength: C, one for all or one a task, shape (tasks,).
        tolerance: stop where no weight moves by more than this share of the largest.
    """
    coordinates, basis = _span(support.double())
    strengths = torch.as_tensor(strength, dtype=torch.float64).expand(len(support))
    inner, bias = _solve_logistic(
        coordinates, one_hot(targets, ways).double(), strengths, tolerance
    )
    return fitted(basis @ inner, bias)


def _solve_logistic(
    points: Tensor, wanted: Tensor, strengths: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Minimise by accelerated gradient steps under a fixed quadratic upper bound.

    The Hessian of the softmax cross-entropy is at most ``(I - 11'/K) / 2`` times the points' Gram
    matrix (Böhning 1992), so that a step preconditioned by that bound never needs a line search.
    Momentum restarts where it points uphill (O'Donoghue and Candès 2015).
    """
    tasks, _, width = points.shape
    ways = wanted.shape[2]
    if ways == 2:
        strengths = strengths / 2  # one vector w stands for (w/2, -w/2), of half the square norm
    design = torch.cat([points, torch.ones_like(points[..., :1])], 2)
    penalty = torch.ones(width + 1, dtype=points.dtype)
    penalty[-1] = 0.0
    bound = strengths[:, None, None] / 2 * design.transpose(1, 2) @ design + penalty.diag()
    inverse = torch.linalg.inv(bound)
    weight = torch.zeros(tasks, width + 1, ways, dtype=points.dtype)
    ahead, momentum = weight, torch.ones(tasks, dtype=points.dtype)
    for _ in range(_MAX_STEPS):
        error = (design @ ahead).softmax(-1) - wanted
        slope = strengths[:, None, None] * (design.transpose(1, 2) @ error)
        slope = slope + penalty[:, None] * ahead
        step = inverse @ slope
        new = ahead - step
        if bool(step.abs().amax() < tolerance * (1 + new.abs().amax())):
            weight = new
            break
        uphill = (slope * (new - weight)).sum((1, 2)) > 0
        momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        pull = torch.where(uphill, torch.zeros_like(momentum), (momentum - 1) / following)
        ahead = new + pull[:, None, None] * (new - weight)
        weight, momentum = new, following
    weight = weight - weight.mean(-1, keepdim=True)
    return weight[:, :-1], weight[:, -1]


def folds(targets: Tensor, ways: int, most: int = 5) -> Tensor:
    """Deal one task's examples to stratified folds: shape (n,), the fold of each.

    There are as many folds as the rarest class has examples, at most `most`; one fold says that
    there is nothing to hold out. Dealing goes by the examples' order.
    """
    counts = torch.bincount(targets, minlength=ways)
    number = int(counts.min().clamp(max=most))
    dealt = torch.zeros_like(targets)
    for way in range(ways):
        mine = (targets == way).nonzero()[:, 0]
        dealt[mine] = torch.arange(len(mine)) % max(1, number)
    return dealt


def cross_validated_strength(
    support: Tensor, targets: Tensor, ways: int, strengths: Sequence[float]
) -> float:
    """Choose logistic regression's C for one task: the least log-loss on held-out support.

    Args:
        support: shape (n, width).
        targets: columns, shape (n,).
        ways: the number of labels.
        strengths: what to choose from; the middle one where some class has a single example.
    """
    dealt = folds(targets, ways)
    if int(dealt.max()) == 0:
        return sorted(strengths)[len(strengths) // 2]
    losses = torch.zeros(len(strengths), dtype=torch.float64)
    choices = torch.tensor(strengths, dtype=torch.float64)
    for fold in range(int(dealt.max()) + 1):
        kept, held = dealt != fold, dealt == fold
        copies = len(strengths)
        found = logistic(
            support[kept].expand(copies, -1, -1),
            targets[kept].expand(copies, -1),
            ways,
            choices,
            _ROUGHLY,
        )
        scores = found.scores(support[held].expand(copies, -1, -1)).double().log_softmax(-1)
        right = scores.gather(2, targets[held].expand(copies, -1)[..., None])
        losses -= right.sum((1, 2))
    return float(choices[int(losses.argmin())])


def ridge(
    support: Tensor,
    targets: Tensor,
    ways: int,
    strengths: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0),
    temperature: float = 0.2,
) -> Fitted:
    """Ridge regression onto targets of 1 and -1, its penalty by leave-one-out.

    The bias is free of penalty. Left-out residuals come in closed form, ``e_i / (1 - h_ii)``, as in
    scikit-learn's ``RidgeClassifierCV``; each task takes the penalty of the least squared one.

    Args:
        support: shape (tasks, n, width).
        targets: columns, shape (tasks, n).
        ways: the number of labels.
        strengths: penalties to choose from.
        temperature: what predictions are divided by before the softmax.
    """
    points = support.double()
    wanted = 2 * one_hot(targets, ways).double() - 1
    middle, offset = points.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    centred, goals = points - middle, wanted - offset
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    values = values.clamp_min(0.0)
    count = points.shape[1]
    best = torch.full((len(points),), torch.inf, dtype=torch.float64)
    duals = torch.zeros_like(goals)
    for penalty in strengths:
        shrunk = 1 / (values + penalty)
        dual = vectors @ (shrunk[..., None] * (vectors.transpose(1, 2) @ goals))
        fit = vectors * (values * shrunk)[:, None]  # hat matrix of the centred fit, with the mean's
        leverage = (fit * vectors).sum(-1) + 1 / count
        residual = penalty * dual / (1 - leverage).clamp_min(1e-9)[..., None]
        loss = residual.square().sum((1, 2))
        duals = torch.where((loss < best)[:, None, None], dual, duals)
        best = torch.minimum(best, loss)
    weight = centred.transpose(1, 2) @ duals
    bias = offset[:, 0] - (middle @ weight)[:, 0]
    return fitted(weight / temperature, bias / temperature)

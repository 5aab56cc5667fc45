"""Transductive heads: all queries are seen at once, and shape each other's answers.

They answer an easier question than the other heads do, and are marked so wherever they are shown.
Each takes support vectors, shape (tasks, n, width), their columns, (tasks, n), and the number of
ways.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from icl.learners.embedding.heads.fitted import (
    Fitted,
    class_means,
    cosines,
    one_hot,
    squared_distances,
)
from icl.learners.embedding.heads.metric import Temperature, per_task


def soft_k_means(
    support: Tensor, targets: Tensor, ways: int, temperature: Temperature = 1.0, steps: int = 1
) -> Fitted:
    """Refine prototypes by the queries' soft assignments (Ren et al. 2018, arXiv 1803.00676).

    ``c_k <- (sum_i x_i [y_i = k] + sum_j z_jk q_j) / (n_k + sum_j z_jk)`` with
    ``z_j = softmax(-||q_j - c||^2 / t)``, `steps` times (eq. 3 and 4); the queries stand for the
    paper's unlabelled examples.
    """
    members = one_hot(targets, ways).to(support.dtype)
    counts = members.sum(1)
    means = class_means(support, targets, ways)
    return Fitted(partial(_refine, steps=steps), (means, counts, per_task(temperature, len(means))))


def _refine(
    queries: Tensor, means: Tensor, counts: Tensor, temperature: Tensor, steps: int
) -> Tensor:
    refined = means
    for _ in range(steps):
        shares = (-squared_distances(queries, refined) / temperature).softmax(-1)
        sums = means * counts[..., None] + shares.transpose(1, 2) @ queries
        refined = sums / (counts + shares.sum(1))[..., None]
    return -squared_distances(queries, refined) / temperature


def laplacian(
    support: Tensor,
    targets: Tensor,
    ways: int,
    temperature: Temperature = 1.0,
    weight: float = 1.0,
    neighbours: int = 3,
    steps: int = 20,
) -> Fitted:
    """Prototypes whose labels agree among neighbouring queries (LaplacianShot, Ziko et al. 2020).

    ``y_q <- softmax(-a_q + weight * sum_p w_qp y_p)`` from ``y_q = softmax(-a_q)``, where ``a`` are
    squared distances to the prototypes, divided by the temperature, and ``w_qp`` is one where p is
    among the k most similar queries of q by cosine (arXiv 2006.15486, eq. 3 and 8). The affinity is
    made symmetric, as the bound that guarantees convergence supposes.
    """
    means = class_means(support, targets, ways)
    rule = partial(_smooth, weight=weight, neighbours=neighbours, steps=steps)
    return Fitted(rule, (means, per_task(temperature, len(means))))


def _smooth(
    queries: Tensor, means: Tensor, temperature: Tensor, weight: float, neighbours: int, steps: int
) -> Tensor:
    unary = -squared_distances(queries, means) / temperature
    count = queries.shape[1]
    if count == 1:
        return unary
    similar = cosines(queries, queries)
    similar = similar.masked_fill(torch.eye(count, dtype=torch.bool), -torch.inf)
    last = similar.topk(min(neighbours, count - 1), dim=-1).values[..., -1:]
    near = (similar >= last).to(unary.dtype)
    near = (near + near.transpose(1, 2)) / 2
    scores = unary
    for _ in range(steps):
        scores = unary + weight * near @ scores.softmax(-1)
    return scores

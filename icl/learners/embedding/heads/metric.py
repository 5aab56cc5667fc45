"""Metric heads: a query belongs to what it lies near.

Each function takes support vectors, shape (tasks, n, width), their columns, (tasks, n), and the
number of ways; every way has at least one support vector. It returns a `Fitted`.
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

Temperature = float | Tensor  # one for all tasks, or one a task, shape (tasks,)


def per_task(temperature: Temperature, tasks: int) -> Tensor:
    """Return a temperature a task, shape (tasks, 1, 1)."""
    return torch.as_tensor(temperature).reshape(-1, 1, 1).expand(tasks, 1, 1)


def _affine(queries: Tensor, weight: Tensor, bias: Tensor, *_: Tensor) -> Tensor:
    # ways first: small matrix products are twice as fast that way round
    return (weight @ queries.transpose(1, 2)).add_(bias[..., None]).transpose(1, 2)


def _nearest(
    queries: Tensor, weight: Tensor, bias: Tensor, means: Tensor, divisor: Tensor
) -> Tensor:
    return -squared_distances(queries, means) / divisor


def _most_similar(queries: Tensor, points: Tensor, temperature: Tensor) -> Tensor:
    return cosines(queries, points) / temperature


def euclidean(
    support: Tensor, targets: Tensor, ways: int, temperature: Temperature = 1.0
) -> Fitted:
    """Prototypes: ``softmax(-||q - c_k||^2 / t)`` (Snell et al. 2017, arXiv 1703.05175, eq. 2).

    In the linear form of the paper's section 2.4, less what is the same for all labels:
    ``2 q (c_k - m) - (c_k + m) (c_k - m)`` is ``||q - m||^2 - ||q - c_k||^2``. With the prototypes'
    mean for ``m``, a large part that all vectors share costs few digits.
    """
    members = one_hot(targets, ways).to(support.dtype).transpose(1, 2)
    shares = members / members.sum(2, keepdim=True)
    both = torch.cat([shares, shares - shares.mean(1, keepdim=True)], 1) @ support
    means, away = both.chunk(2, 1)  # (tasks, ways, width) each
    divisor = per_task(temperature, len(means))
    bias = -torch.linalg.vecdot(2 * means - away, away) / divisor[..., 0]
    return Fitted(_affine, (2 * away / divisor, bias, means, divisor), scope_rule=_nearest)


def cosine(support: Tensor, targets: Tensor, ways: int, temperature: Temperature = 1.0) -> Fitted:
    """Prototypes compared by cosine: ``softmax(cos(q, c_k) / t)``."""
    means = class_means(support, targets, ways)
    return Fitted(_most_similar, (means, per_task(temperature, len(means))))


def mahalanobis(
    support: Tensor, targets: Tensor, ways: int, temperature: Temperature = 1.0, ridge: float = 1.0
) -> Fitted:
    """Prototypes under each class's shrunk covariance (Simple CNAPS, Bateni et al. 2020).

    The score is ``-(q - c_k)' Q_k^-1 (q - c_k) / (2 t)`` with (arXiv 1912.03432, eq. 2 and 3)
    ``Q_k = l_k S_k + (1 - l_k) S + b I`` and ``l_k = n_k / (n_k + 1)``, where ``S_k`` and ``S`` are
    the covariances of class k and of the whole support set. The paper's ``b`` is 1; here it is
    `ridge` times the support's mean variance, so that the scale of vectors does not matter, and
    distances are divided by the width. ``Q_k`` is never formed: it is a multiple of the identity
    plus few outer products.
    """
    width = support.shape[-1]
    members = one_hot(targets, ways).to(support.dtype)
    counts = members.sum(1)  # (tasks, ways)
    means = class_means(support, targets, ways)
    around = support - support.mean(1, keepdim=True)
    variance = around.square().sum((1, 2)) / (max(1, support.shape[1] - 1) * width)
    noise = (ridge * variance).clamp_min(1e-12)
    share = counts / (counts + 1)
    within = (support[:, None] - means[:, :, None]) * members.transpose(1, 2)[..., None]
    within = within * (share / (counts - 1).clamp_min(1)).sqrt()[..., None, None]
    total = around[:, None] * ((1 - share) / max(1, support.shape[1] - 1)).sqrt()[..., None, None]
    factor = torch.cat([within, total], 2)  # Q_k = factor' factor + noise I
    gram = factor @ factor.transpose(2, 3)
    gram = gram + noise[:, None, None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype)
    chol = torch.linalg.cholesky(gram)
    scale = per_task(temperature, len(means)) * width
    return Fitted(_mahalanobis, (means, factor, chol, noise, scale))


def _mahalanobis(
    queries: Tensor, means: Tensor, factor: Tensor, chol: Tensor, noise: Tensor, temperature: Tensor
) -> Tensor:
    off = queries[:, None] - means[:, :, None]  # (tasks, ways, queries, width)
    seen = torch.linalg.solve_triangular(chol, factor @ off.transpose(2, 3), upper=False)
    distance = (off.square().sum(-1) - seen.square().sum(2)) / noise[:, None, None]
    found: Tensor = -distance.transpose(1, 2) / (2 * temperature)
    return found


def matching(support: Tensor, targets: Tensor, ways: int, temperature: Temperature = 1.0) -> Fitted:
    """Matching networks: ``p(k) = sum_i softmax_i(cos(q, x_i) / t) [y_i = k]``.

    Vinyals et al. 2016 (arXiv 1606.04080), eq. 1 and section 2.1.1; the paper's t is 1.
    """
    members = one_hot(targets, ways).to(support.dtype)
    return Fitted(attend_to_labels, (support, members, per_task(temperature, len(support))))


def attend_to_labels(
    queries: Tensor, support: Tensor, members: Tensor, temperature: Tensor
) -> Tensor:
    """Return the log of each label's attention; queries and support need not be one mapping's."""
    weights = (cosines(queries, support) / temperature)[:, :, None]  # (tasks, q, 1, n)
    absent = members.transpose(1, 2)[:, None] == 0
    found: Tensor = weights.masked_fill(absent, -torch.inf).logsumexp(-1)
    return found


def knn(
    support: Tensor, targets: Tensor, ways: int, k: int = 5, temperature: Temperature = 1.0
) -> Fitted:
    """Let the k most similar support vectors vote, each with weight ``exp(cos / t)``.

    A label without a vote gets a thousandth of the smallest possible vote, so that every
    probability stays above zero.
    """
    members = one_hot(targets, ways).to(support.dtype)
    k = min(k, support.shape[1])
    return Fitted(partial(_vote, k=k), (support, members, per_task(temperature, len(support))))


def _vote(queries: Tensor, support: Tensor, members: Tensor, temperature: Tensor, k: int) -> Tensor:
    similar = cosines(queries, support)
    last = similar.topk(k, dim=-1).values[..., -1:]
    weights = ((similar - 1) / temperature).exp() * (similar >= last)
    floor = (-2.0 / temperature).exp() * 1e-3
    return (weights @ members + floor.clamp_min(1e-30)).log()

"""`Fitted`: what every head makes of some support sets, and small tools that heads share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """A head after it has seen the support sets of some tasks.

    Attributes:
        rule: takes queries, shape (tasks, queries, width), and the parameters; returns scores of
            shape (tasks, queries, ways) whose softmax over ways is the answer.
        parameters: tensors with a leading task axis.
        trained: numbers that fitting moved, a task.
        scope_rule: as `rule`, for scores that can be compared between queries, where those of
            `rule` cannot, since it leaves out what is the same for all labels.
    """

    rule: Callable[..., Tensor]
    parameters: tuple[Tensor, ...]
    trained: int = 0
    scope_rule: Callable[..., Tensor] | None = None

    def scores(self, queries: Tensor) -> Tensor:
        """Score queries, shape (tasks, queries, width), to (tasks, queries, ways)."""
        return self.rule(queries, *self.parameters)

    def in_scope(self, queries: Tensor) -> Tensor:
        """Return the best label's score, comparable between queries: (tasks, queries)."""
        rule = self.scope_rule or self.rule
        found: Tensor = rule(queries, *self.parameters).amax(-1)
        return found

    def task(self, index: int) -> Fitted:
        """Return one task's part, with a task axis of one."""
        own = tuple(parameter[index : index + 1] for parameter in self.parameters)
        return Fitted(self.rule, own, self.trained, self.scope_rule)


def one_hot(targets: Tensor, ways: int) -> Tensor:
    """Return indicator rows in float32: (tasks, n) -> (tasks, n, ways)."""
    return torch.nn.functional.one_hot(targets, ways).float()


def class_means(support: Tensor, targets: Tensor, ways: int) -> Tensor:
    """Average each class's vectors: (tasks, n, width), (tasks, n) -> (tasks, ways, width)."""
    members = one_hot(targets, ways).to(support.dtype)
    return members.transpose(1, 2) @ support / members.sum(1)[..., None]


def squared_distances(queries: Tensor, points: Tensor) -> Tensor:
    """Return squared Euclidean distances, (tasks, q, width), (tasks, p, width) -> (tasks, q, p).

    All vectors are first taken relative to the points' mean: distances do not change, and the
    expanded square loses no digits to a large common part.
    """
    centre = points.mean(1, keepdim=True)
    queries, points = queries - centre, points - centre
    cross = queries @ points.transpose(1, 2)
    squares = _squared_norms(queries)[..., None] + _squared_norms(points)[:, None]
    return (squares - 2 * cross).clamp_min(0.0)


def cosines(queries: Tensor, points: Tensor) -> Tensor:
    """Return cosine similarities, (tasks, q, width), (tasks, p, width) -> (tasks, q, p)."""
    unit = torch.nn.functional.normalize
    return unit(queries, dim=-1) @ unit(points, dim=-1).transpose(1, 2)


def _squared_norms(vectors: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vecdot(vectors, vectors)
    return found

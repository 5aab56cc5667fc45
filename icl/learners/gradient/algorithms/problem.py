"""What a meta-learning algorithm is shown: losses of several tasks as functions of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Params = Mapping[str, Tensor]
Loss = Callable[[Params], Tensor]


def parts(loss: Loss) -> Sequence[Loss]:
    """Return the losses that a loss says it is the sum of (its `parts`), or itself.

    Derivatives are sums, too, and may be taken one part at a time with the memory of one.
    """
    found: Sequence[Loss] = getattr(loss, "parts", (loss,))
    return found


def spread(start: Params, tasks: int) -> dict[str, Tensor]:
    """Give parameters a task axis: the same start for each task, with a graph to the original."""
    return {name: value.expand(tasks, *value.shape) for name, value in start.items()}


@dataclass(frozen=True, slots=True)
class Problem:
    """A meta-batch of tasks; nothing here says what the parameters belong to.

    Attributes:
        tasks: how many tasks there are.
        support, query: map parameters, each with a leading task axis, to each task's loss, shape
            (tasks,). A task's loss depends on its own slice of the parameters only.
        begin: maps the start, without a task axis, to the parameters at which the inner loop
            begins, with a task axis and a graph to the start. `ANIL` puts a body's features there,
            `ProtoMAML` a head made of prototypes.
        moves: tells by name which parameters the inner loop moves; the others are held.
    """

    tasks: int
    support: Loss
    query: Loss
    begin: Callable[[Params, int], dict[str, Tensor]] = spread
    moves: Callable[[str], bool] = lambda name: True

"""What a meta-learning algorithm is shown: losses of several tasks as functions of parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
Name = TypeVar("Name", bound=Hashable)
Loss = Callable[[Params], Tensor]


def parts(loss: Loss) -> Sequence[Loss]:
    """Return the losses that a loss says it is the sum of (its `parts`), or itself.

    Derivatives are sums, too, and may be taken one part at a time with the memory of one.
    """
    found: Sequence[Loss] = getattr(loss, "parts", (loss,))
    return found


def gradients(
    outputs: Sequence[Tensor],
    inputs: Mapping[Name, Tensor],
    vectors: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> dict[Name, Tensor]:
    """Return what `torch.autograd.grad` does, by the inputs' names; zero where nothing leads."""
    found = torch.autograd.grad(
        outputs,
        list(inputs.values()),
        vectors,
        create_graph=create_graph,
        retain_graph=retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(inputs, found, strict=True))


def pull(leaves: Params, outputs: Params, cotangents: Params) -> dict[str, Tensor]:
    """Pull cotangents of some outputs back to leaves; zero where no output hangs on any."""
    live = [(outputs[n], v) for n, v in cotangents.items() if outputs[n].requires_grad]
    if not live:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    return gradients([o for o, _ in live], leaves, [v for _, v in live])


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

    def from_leaves(self, start: Params) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the start as fresh leaves that want gradients, and where the inner loop begins."""
        leaves = {name: value.detach().requires_grad_() for name, value in start.items()}
        return leaves, self.begin(leaves, self.tasks)

    def moved(self, begin: Params) -> list[str]:
        """Return the names that the inner loop moves."""
        return [name for name in begin if self.moves(name)]

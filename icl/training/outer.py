"""The meta-gradient of one outer step, on one process or dealt to several."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import torch
from torch import Tensor

from icl.episodes import Episode
from icl.processes import Processes

Loss = Callable[[Sequence[Episode]], tuple[Tensor, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Outer:
    """What an outer step has found; the gradients stand in the parameters' ``grad``.

    Attributes:
        loss: the mean meta-loss of the meta-batch.
        metrics: means of the learner's metrics.
        tokens: computed on all processes.
        stop: whether any process was asked to stop.
    """

    loss: float
    metrics: Mapping[str, float]
    tokens: float
    stop: bool


def pieces(
    batch: int, at_once: int | None, processes: int, *, joint: bool, packed: bool = False
) -> list[range]:
    """Cut a meta-batch into the pieces that run as one pass each.

    The pieces depend on the number of processes only where many tasks run much faster as one pass
    (`packed`: on a GPU) and `at_once` is not given: there each process gets one piece, as even as
    can be. Everywhere else any number of processes computes the same pieces, and so the same bits;
    on a CPU, whose passes are cut to what its cache holds anyway, a task is a piece.

    Args:
        batch: episodes.
        at_once: the most episodes of a piece, or None.
        processes: that share the batch; those that are left over get no piece.
        joint: the loss joins the episodes, so that they cannot be told apart.
        packed: a process's tasks should run as one pass.

    >>> pieces(3, None, 2, joint=False)
    [range(0, 1), range(1, 2), range(2, 3)]
    >>> pieces(5, 3, 2, joint=False)
    [range(0, 3), range(3, 5)]
    >>> pieces(5, None, 3, joint=False, packed=True)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    if at_once is None and joint:
        return [range(batch)]
    if at_once is None and packed:
        count = min(batch, processes)
        small, more = divmod(batch, count)
        starts = [i * small + min(i, more) for i in range(count + 1)]
        return [range(a, b) for a, b in pairwise(starts)]
    size = at_once or 1
    return [range(i, min(i + size, batch)) for i in range(0, batch, size)]


def outer_gradient(
    cut: Sequence[range],
    episode: Callable[[int], Episode],
    loss: Loss,
    parameters: Mapping[str, Tensor],
    processes: Processes,
    *,
    seed: str,
    tokens: Callable[[], float],
    stop: Callable[[], bool],
) -> Outer:
    """Put the mean gradient over a meta-batch into the parameters' ``grad``.

    Each process runs the pieces that are its own by index. The pieces' gradients are added in the
    order of the pieces. Before each piece torch's global generators are set from `seed` and the
    piece's place, so that a learner which draws from them gives the same results on any process
    and after a resumption.

    Args:
        cut: the pieces of the meta-batch, see `pieces`.
        episode: draws the batch's episode of a place.
        loss: of some episodes: the mean, with a graph.
        parameters: leaf tensors; with none of them no gradient is taken.
        processes: that share the work.
        seed: names the step.
        tokens: the meter of computed tokens.
        stop: whether this process was asked to stop; called when its pieces are done.

    Raises:
        IclError: another process was lost.
    """
    batch = sum(map(len, cut))
    for value in parameters.values():
        value.grad = None
    found: list[tuple[int, float, float, dict[str, float]]] = []
    rows: list[Tensor] = []
    before = tokens()
    for index in processes.share(range(len(cut))):
        _reseed(f"{seed}/{cut[index].start}")
        share = len(cut[index]) / batch
        episodes = [episode(place) for place in cut[index]]
        value, metrics = loss(episodes)
        found.append((index, share, float(value.detach()), dict(metrics)))
        if parameters:
            torch.autograd.backward(value * share)
        if parameters and processes.count > 1:
            rows.append(_flat(parameters))
            for parameter in parameters.values():
                parameter.grad = None
    everyone = processes.gather({"pieces": found, "tokens": tokens() - before, "stop": stop()})
    if parameters and processes.count > 1:
        _add_up(rows, len(cut), parameters, processes)
    total, means = 0.0, dict[str, float]()
    for _, share, value, metrics in sorted(
        (p for one in everyone for p in one["pieces"]), key=itemgetter(0)
    ):
        total += share * value
        for name, number in metrics.items():
            means[name] = means.get(name, 0.0) + share * number
    return Outer(
        total, means, sum(one["tokens"] for one in everyone), any(one["stop"] for one in everyone)
    )


def _flat(parameters: Mapping[str, Tensor]) -> Tensor:
    """Return all gradients as one vector, zero where a parameter has none."""
    return torch.cat(
        [
            torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)
            for p in parameters.values()
        ]
    )


def _add_up(
    rows: Sequence[Tensor], count: int, parameters: Mapping[str, Tensor], processes: Processes
) -> None:
    known = list(parameters.values())
    size = sum(p.numel() for p in known)
    own = torch.stack(list(rows)) if rows else torch.empty(0, size, dtype=known[0].dtype)
    total = processes.sum_pieces(own.to(known[0].device), count)
    for parameter, part in zip(known, torch.split(total, [p.numel() for p in known]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter)


def _reseed(place: str) -> None:
    torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:7], "big"))

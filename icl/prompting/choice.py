"""Which examples are shown: at random, class by class, near the query, or near and diverse.

Near and unlike each other: maximal marginal relevance and determinantal point processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from icl.prompting.seeds import number, shuffled
from icl.prompting.similar import Floats, nearest
from icl.tasks.task import Example

Choice = Literal["all", "random", "balanced", "knn", "bm25", "mmr", "dpp"]
BY_QUERY: frozenset[str] = frozenset({"knn", "bm25", "mmr", "dpp"})
EMBEDDED: frozenset[str] = frozenset({"knn", "mmr", "dpp"})
_LEAST_GAIN = 1e-10


def in_order(examples: Sequence[Example], chosen: Sequence[Example]) -> tuple[Example, ...]:
    """Return the chosen examples in the order of the set that they were chosen from."""
    ids = {id(e) for e in chosen}
    return tuple(e for e in examples if id(e) in ids)


def at_random(examples: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Draw examples without looking at them."""
    return in_order(examples, shuffled(examples, seed, "choice")[:count])


def balanced(examples: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Draw as evenly over the labels as the set allows; which labels get one more is drawn too."""
    by_label: dict[str, list[Example]] = {}
    for example in shuffled(examples, seed, "choice"):
        by_label.setdefault(example.label, []).append(example)
    labels = sorted(by_label, key=lambda label: (number(seed, "labels", label), label))
    chosen: list[Example] = []
    while len(chosen) < min(count, len(examples)):
        for label in labels:
            if by_label[label] and len(chosen) < count:
                chosen.append(by_label[label].pop(0))
    return in_order(examples, chosen)


def mmr(relevance: Floats, likeness: Floats, count: int, weight: float) -> list[int]:
    """Choose by maximal marginal relevance (Carbonell & Goldstein 1998).

    Greedily the example with the highest
    ``weight * relevance_i - (1 - weight) * max_{j chosen} likeness_ij``.

    Args:
        relevance: of each example to the query, shape (examples,).
        likeness: of examples to each other, shape (examples, examples).
        count: how many to choose.
        weight: 1 for relevance alone, 0 for diversity alone.

    Returns:
        Places in the order of choice; of equals the earlier.
    """
    chosen: list[int] = []
    left = np.ones(len(relevance), dtype=bool)
    closest = np.zeros(len(relevance))
    while len(chosen) < min(count, len(relevance)):
        values = weight * relevance - (1 - weight) * closest
        place = int(np.where(left, values, -np.inf).argmax())
        closest = np.maximum(closest, likeness[place]) if chosen else likeness[place]
        left[place] = False
        chosen.append(place)
    return chosen


def dpp_kernel(relevance: Floats, likeness: Floats, weight: float) -> Floats:
    """Return ``L_ij = q_i S_ij q_j`` with S = (1 + likeness) / 2.

    The quality is ``q_i = exp(relevance_i * weight / (2 (1 - weight)))``, so that
    ``log det L_Y = weight / (1 - weight) * sum relevance + log det S_Y`` (Ye et al. 2023,
    arXiv 2302.05698, eq. 6, whose lambda is ``(1 - weight) / weight``).

    Args:
        relevance: of each example to the query, shape (examples,).
        likeness: cosines of examples, shape (examples, examples).
        weight: of relevance, 0 for diversity alone, below 1.
    """
    # less the highest: a common factor changes no choice, and keeps exp from overflowing
    quality = np.exp((relevance - relevance.max()) * weight / (2 * (1 - weight)))
    return np.asarray(quality[:, None] * (1 + likeness) / 2 * quality[None, :])


def dpp(kernel: Floats, count: int) -> list[int]:
    """Choose the greedy mode of a determinantal point process (Chen et al. 2018, algorithm 1).

    Each step takes the example that raises ``log det L_Y`` most, by rows of a Cholesky factor
    (arXiv 1709.05135). Where no further example adds volume (texts that stand twice), the rest is
    taken by quality.

    Returns:
        Places in the order of choice; of equals the earlier.
    """
    size = len(kernel)
    count = min(count, size)
    rows = np.zeros((0, size))
    gains = np.diagonal(kernel).astype(np.float64).copy()
    chosen: list[int] = []
    while len(chosen) < count:
        place = int(gains.argmax())
        if gains[place] <= _LEAST_GAIN * kernel.diagonal().max():
            break
        row = (kernel[place] - rows[:, place] @ rows) / np.sqrt(gains[place])
        rows = np.vstack([rows, row])
        gains = gains - row**2
        chosen.append(place)
        gains[chosen] = -np.inf
    rest = [i for i in nearest(np.diagonal(kernel), size) if i not in chosen]
    return [*chosen, *rest[: count - len(chosen)]]

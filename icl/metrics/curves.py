"""Accuracy against shots: the area under the curve, and what each added example brings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from icl.metrics.groups import by_group

Scale = Literal["log", "linear"]


def area_under_shots(accuracy: Mapping[int, float], scale: Scale = "log") -> float:
    """Return the mean height of the accuracy-shots curve, by the trapezoid rule.

    It is the area divided by the width, so that a flat curve's area is its accuracy.

    Args:
        accuracy: number of shots -> accuracy.
        scale: ``log`` lays shots out by log2(1 + shots), as they are mostly doubled; ``linear``
            by their number.

    Raises:
        ValueError: fewer than two numbers of shots, or a negative one.

    >>> area_under_shots({0: 0.25, 1: 0.5, 3: 0.75})
    0.5
    """
    if len(accuracy) < 2 or min(accuracy) < 0:
        raise ValueError("an area needs accuracies at two numbers of shots or more, none negative")
    shots = sorted(accuracy)
    x = [math.log2(1 + k) if scale == "log" else float(k) for k in shots]
    y = [accuracy[k] for k in shots]
    pieces = ((x[i + 1] - x[i]) * (y[i] + y[i + 1]) / 2 for i in range(len(x) - 1))
    return sum(pieces) / (x[-1] - x[0])


def gain_per_example(accuracy: Mapping[int, float], zero_shot: float) -> dict[int, float]:
    """Return, for each number of support examples, the gain over zero-shot per added example.

    Args:
        accuracy: number of support examples -> accuracy; zero examples are left out.
        zero_shot: the accuracy without any example.

    >>> gain_per_example({4: 0.6, 8: 0.6}, 0.4)
    {4: 0.05, 8: 0.025}
    """
    return {n: round((accuracy[n] - zero_shot) / n, 12) for n in sorted(accuracy) if n > 0}


def by_shots(right: Sequence[bool], shots: Sequence[int]) -> dict[int, float]:
    """Return the accuracy at each number of shots, every query weighing the same.

    Raises:
        ValueError: unequal lengths.
    """
    if len(right) != len(shots):
        raise ValueError("give the number of shots of every query")
    return dict(sorted(by_group(right, [int(k) for k in shots]).items())) if len(right) else {}

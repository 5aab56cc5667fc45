"""Calibration: is a learner right as often as it says? Expected calibration error, reliability.

Naeini et al. 2015; Guo et al. 2017, "On calibration of modern neural networks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.metrics.probabilities import check_rows, predicted

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Queries whose likeliest label has a probability in (low, high].

    Attributes:
        low, high: the bin's ends.
        count: how many queries; empty bins are there too, with nothing in the two means.
        confidence: their mean probability of the likeliest label.
        accuracy: the share of them that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Sort queries into bins of equal width by confidence.

    Args:
        confidence: probability of the predicted label, in [0, 1], shape (queries,).
        right: whether the prediction is right, shape (queries,).
        bins: how many bins [0, 1] is parted into.

    Raises:
        ValueError: unequal lengths, no query, no bin, or a confidence outside [0, 1].
    """
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != hit.shape or sure.ndim != 1 or not len(sure) or bins < 1:
        raise ValueError("give one confidence and one outcome for every query, and a bin or more")
    if not np.all((sure >= -1e-6) & (sure <= 1 + 1e-4)):
        raise ValueError("a confidence is no probability")
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, np.clip(sure, 0, 1), side="left") - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        found.append(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                count=count,
                confidence=float(sure[inside].mean()) if count else 0.0,
                accuracy=float(hit[inside].mean()) if count else 0.0,
            )
        )
    return found


def ece(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean gap, weighted by the bins' counts."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / total


def reliability_of(
    log_probs: Sequence[Sequence[float]], references: Sequence[int], bins: int = BINS
) -> list[Bin]:
    """Sort queries into bins by the probability of their likeliest label; see `reliability`."""
    check_rows(log_probs, references)
    confidence = [float(np.exp(max(row))) for row in log_probs]
    right = [p == r for p, r in zip(predicted(log_probs), references, strict=True)]
    return reliability(confidence, right, bins)

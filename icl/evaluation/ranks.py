"""Mean ranks over tasks with a critical difference: Friedman's test and Nemenyi's.

Demšar 2006, "Statistical comparisons of classifiers over multiple data sets". For questions about
other tasks than those at hand: each task (or language) is one observation, however many queries
stand behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icl.evaluation.statistics import Floats


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of k methods over N blocks.

    Attributes:
        mean: mean rank of each method, 1 the best, equals share, shape (methods,).
        critical_difference: mean ranks that differ by more than this differ at the level asked.
        friedman: p-value of "all methods are equal" by Friedman's chi-squared.
        iman_davenport: the same by the F statistic, which is less conservative.
        p: Nemenyi's p-values of all pairs, corrected for their number, shape (methods, methods).
    """

    mean: Floats
    critical_difference: float
    friedman: float
    iman_davenport: float
    p: Floats


def rank(scores: Floats, level: float = 0.95) -> Ranks:
    """Rank methods within blocks and compare their mean ranks.

    Args:
        scores: higher is better, shape (methods, blocks).
        level: one less the chance of a false alarm among all pairs, if all methods are equal.

    Raises:
        ValueError: fewer than two methods or two blocks, or a score that is NaN.
    """
    from scipy.stats import chi2, f, rankdata, studentized_range

    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or np.isnan(scores).any():
        raise ValueError("ranks need scores, none missing, of two methods or more in two blocks")
    methods, blocks = scores.shape
    ranks = rankdata(-scores, axis=0)
    mean = ranks.mean(axis=1)
    # Friedman's statistic with its correction for equals: between over within sums of squares
    within = float(((ranks - (methods + 1) / 2) ** 2).sum()) / (blocks * (methods - 1))
    between = blocks * float(((mean - (methods + 1) / 2) ** 2).sum())
    statistic = between / within if within > 0 else 0.0
    left = blocks * (methods - 1) - statistic
    ratio = (blocks - 1) * statistic / left if left > 1e-12 else math.inf
    unit = math.sqrt(methods * (methods + 1) / (12 * blocks))
    gaps = np.abs(mean[:, None] - mean[None, :])
    p = np.asarray(studentized_range.sf(gaps / unit, methods, np.inf), dtype=np.float64)
    np.fill_diagonal(p, 1.0)
    return Ranks(
        mean=mean,
        critical_difference=float(studentized_range.ppf(level, methods, np.inf)) * unit,
        friedman=float(chi2.sf(statistic, methods - 1)),
        iman_davenport=float(f.sf(ratio, methods - 1, (methods - 1) * (blocks - 1))),
        p=np.clip(p, 0.0, 1.0),
    )

"""AUROC: how well a score tells what belongs to the episode's classes from what does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(scores: Sequence[float], inside: Sequence[bool]) -> float:
    """Return the chance that a query of a known class scores higher than one of none; ties half.

    This is the area under the receiver operating characteristic (Hanley & McNeil 1982), as the
    Mann-Whitney statistic of ranks.

    Args:
        scores: higher for "belongs to a known class", shape (queries,); none may be NaN.
        inside: whether the query belongs to a known class, shape (queries,).

    Raises:
        ValueError: unequal lengths, NaN, or only one kind of query.

    >>> auroc([0.9, 0.4, 0.6], [True, True, False])
    0.5
    """
    values, known = np.asarray(scores, dtype=np.float64), np.asarray(inside, dtype=bool)
    if values.shape != known.shape or values.ndim != 1 or np.isnan(values).any():
        raise ValueError("give one score, not NaN, and one truth for every query")
    yes, no = int(known.sum()), int((~known).sum())
    if not yes or not no:
        raise ValueError("AUROC needs queries of known classes and of none")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal values, from 1
    total = float(rank[place.reshape(-1)][known].sum())
    return (total - yes * (yes + 1) / 2) / (yes * no)

"""Resampling: which learner is best how probably, and intervals of any metric.

For means, `icl.evaluation.statistics` has closed forms that cover better than any bootstrap here
(docs/statistics.md has the figures). What is no mean, like macro-F1 or the error of calibration,
has no closed form: it gets a bootstrap of whole clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from icl.evaluation.statistics import LEVEL, ClusteredSample, Floats

Rows: TypeAlias = NDArray[np.int64]

DRAWS = 2_000


def probability_of_best(sample: ClusteredSample, *, draws: int = 20_000, seed: int = 0) -> Floats:
    """Return each series' probability of having the highest true mean, shape (series,).

    The true means are drawn from the normal distribution around the observed ones with their
    cluster-robust covariance, a flat prior's posterior in the large. Equals share.

    Args:
        sample: of all series on the same queries.
        draws: how many.
        seed: of the draws.
    """
    parts = sample.covariances()
    traces = [np.asarray(np.trace(part)) for part in parts]
    covariance = parts[int(np.argmin(np.abs(traces - sample.variances(traces))))]
    if sample.freedom < 1 or np.trace(covariance) <= 0:  # nothing is known about the spread
        return np.full(len(sample.mean), 1 / len(sample.mean))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    noise = np.random.default_rng(seed).standard_normal((draws, len(values)))
    drawn = sample.mean + noise @ root.T
    top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9
    return np.asarray((top / top.sum(axis=1, keepdims=True)).mean(axis=0))


def bootstrap(
    statistic: Callable[[Rows], float],
    clusters: Sequence[object],
    *,
    strata: Sequence[object] | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return a statistic of all rows, and its percentile interval over redrawn whole clusters.

    Args:
        statistic: of rows given by their numbers, some more than once.
        clusters: the cluster of each row, e.g. its draw.
        strata: the stratum of each row, which its whole cluster shares; None for one.
        level: of the interval.
        draws: how often as many clusters as each stratum has are drawn with replacement.
        seed: of the draws.

    Raises:
        ValueError: no row.
    """
    if not len(clusters):
        raise ValueError("give the cluster of every row, and a row or more")
    places: dict[object, dict[object, list[int]]] = {}
    for row, name in enumerate(clusters):
        stratum = places.setdefault(None if strata is None else strata[row], {})
        stratum.setdefault(name, []).append(row)
    parts = [[np.array(rows) for rows in stratum.values()] for stratum in places.values()]
    rng = np.random.default_rng(seed)
    found = [
        statistic(
            np.concatenate(
                [part[i] for part in parts for i in rng.integers(0, len(part), len(part))]
            )
        )
        for _ in range(draws)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return statistic(np.arange(len(clusters))), float(low), float(high)

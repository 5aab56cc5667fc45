"""All paired comparisons of learners, with every test that people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from icl.evaluation.paired import effect, mcnemar, permutations
from icl.evaluation.statistics import LEVEL, ClusteredSample, Floats, holm

_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Pair:
    """The first learner against the second, on the same queries.

    Attributes:
        difference, low, high: of means, with its interval, clustered by draw and item.
        p, p_holm: of that difference; corrected over all pairs that were asked for.
        low_bootstrap, high_bootstrap: percentile interval over redrawn whole draws, as many of
            each stratum as there are; blind to items in several draws.
        p_permutation: by signs of whole draws; blind likewise.
        p_mcnemar: exact binomial of the queries that differ; blind to all clustering. None where
            outcomes are graded.
        d_z, h, superiority: over draws, see `icl.evaluation.paired.Effect`.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    low_bootstrap: float
    high_bootstrap: float
    p_permutation: float
    p_mcnemar: float | None
    d_z: float
    h: float
    superiority: float


def pairs(
    learners: Sequence[str],
    sample: ClusteredSample,
    *,
    against: str | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """Return every pair of learners, or each learner against one.

    Args:
        learners: in the order of the sample's series.
        sample: whose first clustering is by draw.
        against: compare all with this learner only.
        level: of the intervals.
        seed: of the bootstrap.
    """
    asked = [
        (i, j)
        for i in range(len(learners))
        for j in range(len(learners))
        if (j > i if against is None else learners[j] == against and i != j)
    ]
    if not asked:
        return ()
    d = sample.differences(level)
    totals, shares = cluster_totals(sample)
    by_draw = totals / shares
    gaps = np.stack([totals[i] - totals[j] for i, j in asked])
    low, high = _bootstrap(gaps, sample, level, seed)
    p_permutation = permutations(gaps)
    p_holm = holm(np.array([d.p[at] for at in asked]))
    graded = bool(np.any((sample.values != 0) & (sample.values != 1)))
    found = []
    for n, (i, j) in enumerate(asked):
        size, paired = effect(by_draw[i], by_draw[j]), d.of(i, j)
        found.append(
            Pair(
                first=learners[i],
                second=learners[j],
                difference=paired.value,
                low=paired.low,
                high=paired.high,
                p=paired.p,
                p_holm=float(p_holm[n]),
                low_bootstrap=float(low[n]),
                high_bootstrap=float(high[n]),
                p_permutation=float(p_permutation[n]),
                p_mcnemar=None
                if graded
                else mcnemar((sample.values[i] == 1).tolist(), (sample.values[j] == 1).tolist()),
                **asdict(size),
            )
        )
    return tuple(found)


def cluster_totals(sample: ClusteredSample) -> tuple[Floats, Floats]:
    """Return what each cluster of the first clustering adds to each series' mean, and its weight.

    Shapes: (series, clusters) and (clusters,). The totals over the weights are the clusters' means.
    """
    codes = sample.clusters[0]
    totals = [np.bincount(codes, weights=row * sample.weights) for row in sample.values]
    shares = np.asarray(np.bincount(codes, weights=sample.weights), np.float64)
    return np.stack(totals), shares


def _bootstrap(
    gaps: Floats, sample: ClusteredSample, level: float, seed: int
) -> tuple[Floats, Floats]:
    """Return percentile intervals of each row's sum over redrawn clusters, (rows,) each."""
    rng, shares = np.random.default_rng(seed), cluster_totals(sample)[1]
    strata = np.zeros(len(shares), dtype=np.int64)
    strata[sample.clusters[0]] = sample.strata
    found = np.zeros((_DRAWS, len(gaps)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn = rng.multinomial(len(members), [1 / len(members)] * len(members), _DRAWS)
        # the mean of what was redrawn, weighing as much as the stratum did
        scale = shares[members].sum() / (drawn @ shares[members])
        found += drawn @ gaps[:, members].T * scale[:, None]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high

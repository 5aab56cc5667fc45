"""Two series on the same queries: McNemar, permutations of whole clusters, effect sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.evaluation.statistics import Floats

_EXACT = 12  # up to so many clusters, all 2 ** n sign patterns are tried
DRAWS = 9_999


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Return McNemar's exact two-sided p-value: a binomial test of the queries that differ.

    It takes queries as independent. Where they are clustered (queries of one draw share a
    support set) it finds differences too often; it is right for one shared set of queries.

    Raises:
        ValueError: unequal lengths.

    >>> mcnemar([True] * 6, [False] * 6)
    0.03125
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} outcomes; give both for every query")
    from scipy.stats import binomtest

    only_a = sum(bool(x) and not y for x, y in zip(a, b, strict=True))
    only_b = sum(bool(y) and not x for x, y in zip(a, b, strict=True))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def permutations(
    differences: Sequence[Sequence[float]] | Floats, *, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """Return the two-sided p-values of paired permutation tests over clusters, one a row.

    If two learners are equal, either could have been called the first in any cluster: the mean
    difference is compared with those under random signs. All signs are tried for up to 12
    clusters; of more, `draws` random patterns, the same for all rows, and the observed one counts
    as one of them, so that the test holds its level (Phipson & Smyth 2010).

    Args:
        differences: of each independent cluster, e.g. draw, shape (rows, clusters): its mean, or
            where clusters weigh unequally what it adds to the whole.
        draws: random sign patterns.
        seed: of the patterns.

    Raises:
        ValueError: no cluster.

    >>> permutations([[0.1, 0.2, 0.1, 0.3, 0.2, 0.1]]).tolist()
    [0.03125]
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError("give the mean difference of each cluster")
    rows, clusters = values.shape
    observed = np.abs(values.sum(1)) - 1e-9
    if clusters <= _EXACT:
        every = 1 - 2 * ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1)
        return np.asarray((np.abs(every @ values.T) >= observed).mean(0))
    rng, found, left = np.random.default_rng(seed), np.ones(rows), draws
    while left:  # in slices, so that memory does not grow with clusters times draws
        some = min(left, max(1, 2_000_000 // clusters))
        signs = rng.integers(0, 2, (some, clusters), dtype=np.int8) * 2.0 - 1
        found += (np.abs(signs @ values.T) >= observed).sum(0)
        left -= some
    return np.asarray(found / (draws + 1))


@dataclass(frozen=True, slots=True)
class Effect:
    """How large a paired difference is, whatever its certainty.

    Attributes:
        d_z: mean difference of cluster means over their standard deviation (Cohen 1988; infinite
            where all clusters differ alike).
        h: Cohen's h of the two means as proportions, 2 asin √p − 2 asin √q; 0.2 is small, 0.5
            medium, 0.8 large.
        superiority: share of clusters in which the first is better; equals count half.
    """

    d_z: float
    h: float
    superiority: float


def effect(first: Floats, second: Floats) -> Effect:
    """Return effect sizes of two series of cluster means in [0, 1], shape (clusters,) each.

    Raises:
        ValueError: other or unequal shapes, or no cluster.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError("give both means of every cluster")
    gap = a - b
    mean, spread = float(gap.mean()), float(gap.std(ddof=1)) if len(gap) > 1 else 0.0
    d_z = mean / spread if spread > 1e-12 else math.copysign(math.inf, mean) if mean else 0.0
    p, q = (math.asin(math.sqrt(min(1.0, max(0.0, float(x.mean()))))) for x in (a, b))
    return Effect(d_z, 2 * p - 2 * q, float(((gap > 0) + 0.5 * (gap == 0)).mean()))

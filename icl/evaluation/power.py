"""How many draws it takes to see a difference, from a pilot.

With ``d`` the difference of two learners on a query, the mean over all that a draw asks of it (at
several shots, say), a pilot of D draws with q queries each gives three variances of its mean:
clustered by draw, clustered by item, and of independent queries. Their differences are moment
estimates of the components

    d = mean + draw effect + item effect + rest,   variances v_d, v_i, v_r,

and N draws then have the variance

    v_d / N + v_i (1 / M + (1 - 1 / M) / (N q)) + v_r / (N q).

M is the number of items that draws take from: as often as two queries of different draws are the
same item, so many times one in M. More draws do not help against the term in 1 / M: then it takes
more items, not more draws.

The power is that of the test in `icl.evaluation.statistics`: Student's t with the smaller number of
clusters less the number of strata as degrees of freedom. See `icl.evaluation.draws`: where each
draw is done at two numbers of shots, N draws are 2 N episodes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from icl.evaluation.statistics import LEVEL, ClusteredSample, Codes, Floats

_MOST = 1_000_000
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Components:
    """Where the variance of a paired difference comes from.

    Attributes:
        episode, item, rest: variances of one query's difference; `episode` that of draws.
        queries: of a draw, on average.
        items: how many there are to draw from; infinite where none came twice.
        strata: how many there are, each with a mean of its own.
    """

    episode: float
    item: float
    rest: float
    queries: float
    items: float
    strata: int = 1

    def variance(self, draws: int) -> float:
        """Return the variance of the mean difference over so many draws."""
        total = draws * self.queries
        twice = 1 / self.items
        return self.episode / draws + self.item * (twice + (1 - twice) / total) + self.rest / total

    def clusters(self, draws: int) -> int:
        """Return the smaller number of clusters: of draws, or of items that will be seen."""
        total = draws * self.queries
        if math.isinf(self.items):
            return draws
        unseen = math.exp(total * math.log1p(-1 / self.items)) if self.items > 1 else 0.0
        return max(1, min(draws, math.floor(self.items * (1 - unseen))))


def components(sample: ClusteredSample, first: int, second: int) -> Components:
    """Estimate the components of the difference of two series of a pilot.

    Args:
        sample: clustered by draw and, if there is a second clustering, by item.
        first, second: which two series.

    Raises:
        ValueError: the pilot has no degree of freedom, as with fewer than two draws.
    """
    if len(np.unique(sample.clusters[0])) <= sample.lost:
        raise ValueError("a pilot needs two episodes or more, of as many draws, in each setting")
    # What a draw asks of an item at several shots is one query.
    codes, query = sample.clusters, np.arange(len(sample.weights))
    if len(codes) > 1:
        cells, query = np.unique(np.stack(codes), axis=1, return_inverse=True)
        codes, query = tuple(cells), np.asarray(query).reshape(-1)
    gap = (sample.values[first] - sample.values[second])[None]
    scores = np.asarray(np.bincount(query, weights=sample.scores(gap)[0]), np.float64)
    weights = np.bincount(query, weights=sample.weights)
    draws, *more = codes
    total, lost = len(weights), sample.lost
    queries = total / (int(draws.max()) + 1)
    single = _clustered(scores, np.arange(total), lost)
    # shares of one cluster are squared where its effect is shared
    shared = float((np.bincount(draws, weights=weights) ** 2).sum())
    alone = float((weights**2).sum())
    draw, item, items = 0.0, 0.0, math.inf
    if shared > alone:
        draw = max(0.0, (_clustered(scores, draws, lost) - single) / (shared - alone))
    if more:
        counts = np.bincount(more[0])
        pairs = (total**2 - float((np.bincount(draws) ** 2).sum())) / 2
        same = (float((counts**2).sum()) - total) / 2  # no item stands twice in a draw
        items = pairs / same if same else math.inf
        shared = float((np.bincount(more[0], weights=weights) ** 2).sum())
        if shared > alone * (1 + 1e-9):
            item = max(0.0, (_clustered(scores, more[0], lost) - single) / (shared - alone))
    rest = max(0.0, single / alone - draw - item)
    return Components(draw, item, rest, queries, max(items, 1.0), lost)


def power(found: Components, difference: float, draws: int, alpha: float = ALPHA) -> float:
    """Return the chance to find a true difference with p below alpha in so many draws.

    Args:
        found: the components.
        difference: the true difference of means, in (0, 1).
        draws: how many.
        alpha: what p must be below; divide it by the number of comparisons that are made.
    """
    from scipy.stats import nct, t

    freedom = found.clusters(draws) - found.strata
    variance = found.variance(draws)
    if freedom < 1:
        return 0.0
    if variance <= 0:
        return 1.0
    shift = difference * math.sqrt((1 - difference**2) / variance)
    bound = float(t.ppf(1 - alpha / 2, freedom))
    found_power = float(nct.sf(bound, freedom, shift))
    return found_power if math.isfinite(found_power) else float(t.sf(bound - shift, freedom))


def episodes_needed(
    found: Components, difference: float, wanted: float, alpha: float = ALPHA
) -> int | None:
    """Return the fewest draws that reach a power, or None where no number does.

    A draw is one episode, or several at as many numbers of shots.

    Raises:
        ValueError: a difference or a power that is not between 0 and 1.
    """
    if not (0 < difference < 1 and 0 < wanted < 1):
        raise ValueError("difference and power must lie between 0 and 1")
    if power(found, difference, _MOST, alpha) < wanted:
        return None
    high = 2
    while power(found, difference, high, alpha) < wanted:
        high = min(2 * high, _MOST)
    few = range(high)
    return bisect_left(few, wanted, high // 2, key=lambda n: power(found, difference, n, alpha))


def half_width(found: Components, draws: int, level: float = LEVEL) -> float:
    """Return half the width that the interval of a mean difference will have over so many draws.

    For differences far from 1; infinite without a degree of freedom.
    """
    from scipy.stats import t

    freedom = found.clusters(draws) - found.strata
    if freedom < 1:
        return math.inf
    return float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(max(0.0, found.variance(draws)))


def draws_for_width(found: Components, wanted: float, level: float = LEVEL) -> int | None:
    """Return the fewest draws whose interval is so narrow, or None where no number's is.

    Args:
        found: the components.
        wanted: half the interval's width, as a share.
        level: of the interval.

    Raises:
        ValueError: a width that is not above 0.
    """
    if not wanted > 0:
        raise ValueError("the width must be above 0")
    if half_width(found, _MOST, level) > wanted:
        return None
    high = 2
    while half_width(found, high, level) > wanted:
        high = min(2 * high, _MOST)
    few = range(high + 1)
    return bisect_left(few, -wanted, high // 2, key=lambda n: -half_width(found, n, level))


def _clustered(scores: Floats, codes: Codes, lost: int) -> float:
    totals = np.bincount(codes, weights=scores)
    groups = len(np.unique(codes))
    return float(totals @ totals) * groups / max(groups - lost, 1)

"""How many episodes it takes to see a difference, from a pilot.

With ``d`` the difference of two learners on a query, a pilot of E episodes with q queries each
gives three variances of its mean: clustered by episode, clustered by item, and of independent
queries. Their differences are moment estimates of the components

    d = mean + episode effect + item effect + rest,   variances v_e, v_i, v_r,

and N episodes then have the variance

    v_e / N + v_i (1 / M + (1 - 1 / M) / (N q)) + v_r / (N q).

M is the number of items that episodes are drawn from: as often as two queries of different
episodes are the same item, so many times one in M. More episodes do not help against the term in
1 / M: then it takes more items, not more episodes.

The power is that of the test in `icl.evaluation.statistics`: Student's t with one less than the
smaller number of clusters as degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icl.evaluation.statistics import ClusteredSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 1_000_000
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Components:
    """Where the variance of a paired difference comes from.

    Attributes:
        episode, item, rest: variances of one query's difference.
        queries: of an episode, on average.
        items: how many there are to draw from; infinite where none came twice.
    """

    episode: float
    item: float
    rest: float
    queries: float
    items: float

    def variance(self, episodes: int) -> float:
        """Return the variance of the mean difference over so many episodes."""
        total = episodes * self.queries
        twice = 1 / self.items
        return (
            self.episode / episodes + self.item * (twice + (1 - twice) / total) + self.rest / total
        )

    def clusters(self, episodes: int) -> int:
        """Return the smaller number of clusters: of episodes, or of items that will be seen."""
        total = episodes * self.queries
        if math.isinf(self.items):
            return episodes
        unseen = math.exp(total * math.log1p(-1 / self.items)) if self.items > 1 else 0.0
        return max(1, min(episodes, math.floor(self.items * (1 - unseen))))


def components(sample: ClusteredSample, first: int, second: int) -> Components:
    """Estimate the components of the difference of two series of a pilot.

    Args:
        sample: clustered by episode and, if there is a second clustering, by item.
        first, second: which two series.

    Raises:
        ValueError: the pilot has fewer than two episodes.
    """
    episodes, *more = sample.clusters
    count = int(episodes.max()) + 1
    if count < 2:
        raise ValueError("a pilot needs two episodes or more")
    total = len(sample.weights)
    queries = total / count
    gap = (sample.values[first] - sample.values[second])[None]
    centred = (gap - (gap @ sample.weights)[:, None]) * sample.weights
    single = float((centred**2).sum()) * total / max(total - 1, 1)
    by_episode = _clustered(centred[0], episodes)
    # shares of one cluster are squared where its effect is shared
    shared = float((np.bincount(episodes, weights=sample.weights) ** 2).sum())
    alone = float((sample.weights**2).sum())
    episode = max(0.0, (by_episode - single) / (shared - alone)) if shared > alone else 0.0
    item, items = 0.0, math.inf
    if more:
        codes = more[0]
        counts = np.bincount(codes)
        pairs = (total**2 - float((np.bincount(episodes) ** 2).sum())) / 2
        within = np.unique(np.stack([episodes, codes]), axis=1, return_counts=True)[1]
        same = (float((counts**2).sum()) - float((within**2).sum())) / 2
        items = pairs / same if same else math.inf
        shared = float((np.bincount(codes, weights=sample.weights) ** 2).sum())
        if shared > alone * (1 + 1e-9):
            item = max(0.0, (_clustered(centred[0], codes) - single) / (shared - alone))
    whole = single / alone
    return Components(episode, item, max(0.0, whole - episode - item), queries, max(items, 1.0))


def power(found: Components, difference: float, episodes: int, alpha: float = ALPHA) -> float:
    """Return the chance to find a true difference with p below alpha in so many episodes.

    Args:
        found: the components.
        difference: the true difference of means, in (0, 1).
        episodes: how many.
        alpha: what p must be below; divide it by the number of comparisons that are made.
    """
    from scipy.stats import nct, t

    freedom = found.clusters(episodes) - 1
    variance = found.variance(episodes)
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
    """Return the fewest episodes that reach a power, or None where no number does.

    Raises:
        ValueError: a difference or a power that is not between 0 and 1.
    """
    if not (0 < difference < 1 and 0 < wanted < 1):
        raise ValueError("difference and power must lie between 0 and 1")
    if power(found, difference, _MOST, alpha) < wanted:
        return None
    low, high = 1, 2
    while power(found, difference, high, alpha) < wanted:
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        if power(found, difference, middle, alpha) < wanted:
            low = middle
        else:
            high = middle
    return high


def _clustered(scores: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    totals = np.bincount(codes, weights=scores)
    groups = len(np.unique(codes))
    return float(totals @ totals) * groups / max(groups - 1, 1)

"""Differences between two lists of records, paired by query or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.evaluation.record import EpisodeRecord
from icl.evaluation.statistics import LEVEL, ClusteredSample, clustered_sample


@dataclass(frozen=True, slots=True)
class Difference:
    """The first mean less the second, with its 95 % interval and p-value (not corrected)."""

    value: float
    low: float
    high: float
    p: float


def base(setting: str) -> str:
    """Return a setting's name without the variant of its labels.

    >>> base("within+flipped-labels")
    'within'
    """
    return setting.split("+", 1)[0]


def draw(record: EpisodeRecord) -> tuple[object, ...]:
    """Return what the episodes of one draw share, whatever their shots and labels' variant."""
    return (
        record.task, record.split, base(record.setting), record.index, record.query_language,
        record.query_ids,
    )  # fmt: skip


def paired(
    first: Sequence[EpisodeRecord], second: Sequence[EpisodeRecord], metric: str
) -> Difference:
    """Compare records of the same queries, one by one; clustered by draw and by item.

    Args:
        first, second: of equal length; those of one place are about the same queries.
        metric: what they are scored by.
    """
    sample = _sample([first, second], metric)
    found = sample.differences()
    return Difference(
        float(found.difference[0, 1]),
        float(found.low[0, 1]),
        float(found.high[0, 1]),
        float(found.p[0, 1]),
    )


def unpaired(
    first: Sequence[Sequence[EpisodeRecord]],
    second: Sequence[Sequence[EpisodeRecord]],
    metric: str,
) -> Difference:
    """Compare records of other episodes.

    Each side is one learner's records, or two learners' on the same episodes: then what is
    compared is the first one's lead over the second, which allows for the episodes' difficulty.
    The sides are taken as independent; t has one less than the smaller number of clusters.
    """
    from scipy.stats import t

    most = 2.0 if len(first) > 1 else 1.0
    value, variance, clusters = 0.0, 0.0, []
    for sign, side in ((1, first), (-1, second)):
        sample = _sample(side, metric)
        contrast = np.array([1.0, -1.0][: len(side)])
        value += sign * float(contrast @ sample.mean)
        variance += max(float(contrast @ part @ contrast) for part in sample.covariances())
        clusters.append(sample.smallest_clustering)
    freedom = max(min(clusters) - 1, 1)
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(t.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    return Difference(value, max(value - reach, -most), min(value + reach, most), p)


def _sample(series: Sequence[Sequence[EpisodeRecord]], metric: str) -> ClusteredSample:
    rows = series[0]
    return clustered_sample(
        [[x for record in one for x in record.outcomes(metric)] for one in series],
        [draw(record) for record in rows for _ in record.query_ids],
        [(record.task, item) for record in rows for item in record.parallel_ids],
        weights=[1 / len(record.query_ids) for record in rows for _ in record.query_ids],
    )

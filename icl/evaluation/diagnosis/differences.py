"""Differences between two lists of records, paired by query or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icl.episodes.variants import without_variant
from icl.evaluation.draws import clustered
from icl.evaluation.record import EpisodeRecord
from icl.evaluation.statistics import LEVEL


@dataclass(frozen=True, slots=True)
class Difference:
    """The first mean less the second, with its 95 % interval and p-value (not corrected)."""

    value: float
    low: float
    high: float
    p: float


def same_queries(record: EpisodeRecord) -> tuple[object, ...]:
    """Return what the episodes of the very same queries share, whatever their shots and labels."""
    return (
        record.task, record.split, without_variant(record.setting), record.index,
        record.query_language, record.query_ids,
    )  # fmt: skip


def paired(
    first: Sequence[EpisodeRecord], second: Sequence[EpisodeRecord], metric: str
) -> Difference:
    """Compare records of the same queries, one by one; clustered by draw and by item.

    Args:
        first, second: of equal length; those of one place are about the same queries.
        metric: what they are scored by.
    """
    sample = clustered([first, second], metric)
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
    The sides are taken as independent; t has the fewer of their degrees of freedom.
    """
    from scipy.stats import t

    most = 2.0 if len(first) > 1 else 1.0
    value, variance, freedoms = 0.0, 0.0, []
    for sign, side in ((1, first), (-1, second)):
        sample = clustered(side, metric)
        contrast = np.array([1.0, -1.0][: len(side)])
        value += sign * float(contrast @ sample.mean)
        parts = [np.asarray(contrast @ part @ contrast) for part in sample.covariances()]
        variance += float(sample.variances(parts))
        freedoms.append(sample.freedom)
    freedom = max(min(freedoms), 1)
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(t.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    return Difference(value, max(value - reach, -most), min(value + reach, most), p)

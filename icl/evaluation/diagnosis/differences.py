"""Differences between two lists of records, paired by query or not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from icl.episodes.variants import without_variant
from icl.evaluation.draws import clustered
from icl.evaluation.statistics import LEVEL, NIL, ClusteredSample, Difference, Floats
from icl.runs.record import EpisodeRecord


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
    return clustered([first, second], metric).differences().of(0, 1)


def unpaired(
    first: Sequence[Sequence[EpisodeRecord]], second: Sequence[Sequence[EpisodeRecord]], metric: str
) -> Difference:
    """Compare records of other episodes.

    Each side is one learner's records, or two learners' on the same episodes: then what is
    compared is the first one's lead over the second, which allows for the episodes' difficulty.
    The sides are taken as independent; t has the fewer of their degrees of freedom. Without one,
    nothing is known. A side in which no draw differs is as sure as its number of draws makes it.
    """
    from scipy.stats import t

    most = 2.0 if len(first) > 1 else 1.0
    samples = [clustered(side, metric) for side in (first, second)]
    contrast = np.array([1.0, -1.0][: len(first)])
    means = [float(contrast @ sample.mean) for sample in samples]
    value, freedom = means[0] - means[1], min(sample.freedom for sample in samples)
    if freedom < 1:
        return Difference(value, -most, most, 1.0)
    bound = float(t.ppf((1 + LEVEL) / 2, freedom))
    reach = math.hypot(*(_reach(sample, contrast, bound) for sample in samples))
    p = 2 * float(t.sf(bound * abs(value) / reach, freedom))
    return Difference(value, max(value - reach, -most), min(value + reach, most), p)


def _reach(sample: ClusteredSample, contrast: Floats, bound: float) -> float:
    """Return half the interval of a mean or a lead; where no draw differs, the Wilson one's."""
    parts = [np.asarray(contrast @ part @ contrast) for part in sample.covariances()]
    variance = float(sample.variances(parts))
    if variance > NIL:
        return bound * float(np.sqrt(variance))
    if len(contrast) == 1:
        one = sample.means()
        return float(one.high[0] - one.low[0])
    lead = sample.differences().of(0, 1)
    return max(lead.high - lead.value, lead.value - lead.low)

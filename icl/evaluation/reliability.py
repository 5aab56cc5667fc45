"""Whether learners are right as often as they say, from a run's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from icl.metrics.reliability import Bin, ece, reliability
from icl.runs.record import EpisodeRecord

BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """One learner's probabilities against what came true, over all its queries.

    Attributes:
        nll: mean negative log-likelihood of the right labels, in nats; may be infinite.
        brier: mean squared error of the distribution, from 0 to 2.
        ece: expected calibration error over `bins`.
        bins: of equal width, by the probability of the predicted label.
    """

    nll: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]


def calibration(records: Iterable[EpisodeRecord], bins: int = BINS) -> Calibration:
    """Return one learner's calibration.

    Rows are normalised once more, since records keep them rounded.

    Raises:
        ValueError: there are no records of labelled queries.
    """
    losses, squares, confidence, right = [], [], [], []
    for record in records:
        if record.scored:
            continue
        scores = np.array(record.log_probs, dtype=np.float64)
        scores = scores - scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        shares, queries = np.exp(scores), np.arange(len(record.gold))
        gold, predicted = np.array(record.gold), np.array(record.predictions)
        losses.append(-scores[queries, gold])
        truth = np.zeros_like(shares)
        truth[queries, gold] = 1
        squares.append(((shares - truth) ** 2).sum(axis=1))
        confidence.append(shares[queries, predicted])
        right.append(predicted == gold)
    if not losses:
        raise ValueError("no record is of labelled queries")
    found = reliability(np.concatenate(confidence).tolist(), np.concatenate(right).tolist(), bins)
    return Calibration(
        nll=float(np.concatenate(losses).mean()),
        brier=float(np.concatenate(squares).mean()),
        ece=ece(found),
        bins=tuple(found),
    )

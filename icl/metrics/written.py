"""The metrics by which a generation task's answers are judged, by their names in definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from icl.errors import IclError, did_you_mean
from icl.metrics import ngrams, texts

METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": texts.exact_match,
    "token_f1": texts.token_f1,
    "chrf": ngrams.chrf,
    "bleu": ngrams.bleu,
    "rouge": ngrams.rouge,
}


def scores(metric: str, answers: Sequence[str], references: Sequence[str]) -> tuple[float, ...]:
    """Return each answer's score against its reference, in [0, 1].

    Raises:
        IclError: there is no such metric, or its library is not installed.

    >>> scores("exact_match", ["Paris.", "Rome"], ["paris", "Bern"])
    (1.0, 0.0)
    """
    if metric not in METRICS:
        raise IclError(f"No metric {metric!r} judges texts." + did_you_mean(metric, METRICS))
    judge = METRICS[metric]
    return tuple(judge(a, r) for a, r in zip(answers, references, strict=True))


def check(metrics: Sequence[str]) -> None:
    """Raise `IclError` for a metric that is unknown or whose library is not installed."""
    for metric in metrics:
        scores(metric, ["a"], ["a"])

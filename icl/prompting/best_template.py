"""Template choice by leaving one support example out at a time; queries are not looked at."""

from __future__ import annotations

from collections.abc import Sequence

from icl.prompting.scoring import Query, Scorer
from icl.tasks.task import Example


def support_score(scorer: Scorer, support: Sequence[Example]) -> float:
    """Return the mean log-probability of each support label given all other examples.

    Perez et al. 2021 (arXiv 2105.11447) call it leave-one-out cross-validation of prompts; it says
    less than it seems to where shots are few.
    """
    queries = [
        Query(tuple(e for e in support if e is not left_out), left_out.fields)
        for left_out in support
    ]
    log_probs = scorer.log_probs(queries)
    columns = [scorer.labels.index(e.label) for e in support]
    return float(log_probs[range(len(support)), columns].mean())


def best(scorers: Sequence[Scorer], support: Sequence[Example]) -> Scorer:
    """Return the scorer with the best support score; of equals, or without support, the first."""
    if len(scorers) == 1 or not support:
        return scorers[0]
    scores = [round(support_score(scorer, support), 6) for scorer in scorers]
    return scorers[scores.index(max(scores))]

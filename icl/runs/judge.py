"""Judging one learner on one episode."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl.episodes import Episode
from icl.learners.base import Learner, checked_scores
from icl.runs.bill import Bill
from icl.runs.record import EpisodeRecord

if TYPE_CHECKING:
    from torch import Tensor

    from icl.models.base import Model


def judge(
    learner: Learner,
    name: str,
    key: str,
    episode: Episode,
    backbone: Model,
    *,
    pool: bool = False,
) -> EpisodeRecord:
    """Let a learner adapt to an episode's support set and label its queries, and count the cost.

    With `pool` the learner is shown the episode's pool after the support set.

    Raises:
        ValueError: the scores have another shape than (queries, labels).
        IclError: they are not finite.
    """
    scored = backbone.meter.scored.copy()
    support = (*episode.support, *episode.pool) if pool else episode.support
    with Bill(backbone) as bill:
        predictor = learner.adapt(support, episode.labels)
        scores = checked_scores(learner, predictor, [example.fields for example in episode.query])
    rows = _rows(scores, len(episode.query), episode.ways)
    return EpisodeRecord(
        learner=name,
        method=learner.method,
        learner_key=key,
        fingerprint=episode.fingerprint,
        task=episode.task,
        setting=episode.setting,
        split=episode.split,
        index=episode.index,
        ways=episode.ways,
        shots=episode.shots,
        support_language=episode.support_language,
        query_language=episode.query_language,
        labels=episode.labels.names,
        query_ids=tuple(example.id for example in episode.query),
        parallel_ids=tuple(example.parallel_id for example in episode.query),
        log_probs=rows,
        predictions=predictions(rows, episode.fingerprint),
        gold=tuple(episode.labels.index(example.label) for example in episode.query),
        cost=bill.cost(predictor.trained_parameters),
        transductive=learner.transductive,
        scoring=dict(sorted((backbone.meter.scored - scored).items())),
    )


def predictions(rows: Sequence[Sequence[float]], fingerprint: str) -> tuple[int, ...]:
    """Return the best column of each row; exact ties are broken by lot, the same lot every time.

    >>> predictions([(-1.0, -0.5), (-0.7, -0.7), (-0.7, -0.7), (-0.7, -0.7)], "an episode")
    (1, 1, 0, 1)
    """
    chosen = []
    for number, row in enumerate(rows):
        best = max(row)
        tied = [column for column, score in enumerate(row) if score == best]
        lot = hashlib.sha256(f"tie/{fingerprint}/{number}".encode()).digest()
        chosen.append(tied[int.from_bytes(lot[:8], "big") % len(tied)])
    return tuple(chosen)


def _rows(scores: Tensor, queries: int, labels: int) -> tuple[tuple[float, ...], ...]:
    if tuple(scores.shape) != (queries, labels):
        raise ValueError(f"scores have the shape {tuple(scores.shape)}, not {(queries, labels)}")
    return tuple(tuple(row) for row in scores.tolist())

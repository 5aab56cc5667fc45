"""Judging one learner on one episode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from icl.episodes import Episode
from icl.errors import IclError
from icl.learners.base import Learner, Predictor, checked_scores
from icl.runs.bill import Bill
from icl.runs.record import ACCURACY, EpisodeRecord
from icl.tasks.kinds.registry import kind_name
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from torch import Tensor

    from icl.models.base import Model


@runtime_checkable
class Writer(Protocol):
    """A predictor that writes answers."""

    def generate(self, texts: Sequence[Fields]) -> list[str]:
        """Return one answer a text."""


def judge(
    learner: Learner,
    name: str,
    key: str,
    episode: Episode,
    backbone: Model,
    *,
    pool: bool = False,
) -> EpisodeRecord:
    """Let a learner adapt to an episode's support set and answer its queries, and count the cost.

    The learner sees plain examples and texts, as the episode's kind of task puts them; the kind
    makes of its answers what is judged.

    Args:
        learner: who is judged.
        name: its name in the run.
        key: its key, see `icl.runs.keys`.
        episode: whose queries' answers are not shown to the learner.
        backbone: whose meters are read.
        pool: whether the learner is shown the episode's pool after the support set.

    Raises:
        ValueError: there are not as many answers as questions, or not a score for each label.
        IclError: scores are not finite, the learner cannot write where it should, or the kind
            settles or judges answers in no way that it may.
    """
    scored = backbone.meter.scored.copy()
    posed = episode.posed()
    support = (*posed.support, *posed.pool) if pool else posed.support
    texts = [question.fields for question in posed.query]
    with Bill(backbone) as bill:
        predictor = learner.adapt(support, posed.labels)
        answers: Any = (
            _written(learner, name, episode, predictor, texts)
            if episode.kind.writes
            else checked_scores(learner, predictor, texts)
        )
    if not episode.kind.writes:
        answers = _rows(answers, len(texts), len(posed.labels))
    outcome = _labelled if episode.kind.single else _by_metrics
    return EpisodeRecord(
        learner=name,
        method=learner.method,
        learner_key=key,
        fingerprint=episode.fingerprint,
        task=episode.task,
        setting=episode.setting,
        split=episode.split,
        index=episode.index,
        shots=episode.shots,
        support_language=episode.support_language,
        query_language=episode.query_language,
        query_ids=tuple(example.id for example in episode.query),
        parallel_ids=tuple(example.parallel_id for example in episode.query),
        cost=bill.cost(predictor.trained_parameters),
        transductive=learner.transductive,
        scoring=dict(sorted((backbone.meter.scored - scored).items())),
        **outcome(episode, answers),
    )


def _labelled(episode: Episode, rows: Sequence[Any]) -> Mapping[str, Any]:
    """Return what a record says of labels: the log-probabilities, from which all else comes."""
    return {
        "ways": episode.ways,
        "labels": episode.labels.names,
        "log_probs": rows,
        "predictions": predictions(rows, episode.fingerprint),
        "gold": tuple(episode.labels.index(example.label) for example in episode.query),
    }


def _by_metrics(episode: Episode, answers: Sequence[Any]) -> Mapping[str, Any]:
    """Return what a record says of any other kind: answers, and their scores by its metrics."""
    kind, labels = episode.kind, episode.labels
    rest = iter(answers)
    texts = []
    for example in episode.query:
        own = list(islice(rest, len(kind.questions(example, labels))))
        text = kind.settle(own, labels)
        if not isinstance(text, str):
            raise IclError(
                f"The kind of task {kind_name(kind)!r} settles {example.id!r} as a"
                f" {type(text).__name__}; let `settle` return a text, spelt as `Example.label` is."
            )
        texts.append(text)
    references = tuple(example.label for example in episode.query)
    metrics = kind.measures(labels)
    if not metrics or ACCURACY in metrics:
        raise IclError(
            f"The kind of task {kind_name(kind)!r} is judged by {', '.join(metrics) or 'nothing'};"
            f" give it metrics with names of their own ({ACCURACY} is that of single labels), and"
            " draw the episodes again."
        )
    scores = {
        name: tuple(metric.score(a, r) for a, r in zip(texts, references, strict=True))
        for name, metric in metrics.items()
    }
    for name, row in (*scores.items(), *((n, (m.chance,)) for n, m in metrics.items())):
        wrong = [x for x in row if not (isinstance(x, Real) and 0 <= x <= 1)]
        if wrong:
            raise IclError(
                f"The metric {name!r} of the kind of task {kind_name(kind)!r} is {wrong[0]!r};"
                " let it be a number from 0 to 1."
            )
    return {
        "ways": 0, "labels": (), "log_probs": (), "predictions": (), "gold": (),
        "texts": tuple(texts),
        "references": references,
        "scores": {name: tuple(map(float, row)) for name, row in scores.items()},
        "chance": {name: float(m.chance) for name, m in metrics.items() if m.chance},
    }  # fmt: skip


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


def _written(
    learner: Learner, name: str, episode: Episode, predictor: Predictor, texts: Sequence[Fields]
) -> list[str]:
    if not isinstance(predictor, Writer):
        raise IclError(cannot_write(name, learner.method, episode.task))
    answers = predictor.generate(texts)
    if len(answers) != len(texts):
        raise ValueError(f"{len(answers)} answers were written to {len(texts)} queries")
    return answers


def cannot_write(name: str, method: str, task: str) -> str:
    """Say that a learner labels queries and cannot take part where answers are written."""
    return (
        f"The learner {name!r} labels queries by the method {method!r} and cannot write the answers"
        f" of the generation task {task!r}; leave one of them out, or take"
        " in-context or zero-shot."
    )


def _rows(scores: Tensor, queries: int, labels: int) -> tuple[tuple[float, ...], ...]:
    if tuple(scores.shape) != (queries, labels):
        raise ValueError(f"scores have the shape {tuple(scores.shape)}, not {(queries, labels)}")
    return tuple(tuple(row) for row in scores.tolist())

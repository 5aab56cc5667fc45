"""Judging one learner's written answers to one episode of a generation task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from icl.episodes import Episode
from icl.errors import IclError
from icl.learners.base import Learner
from icl.metrics import written
from icl.runs.bill import Bill
from icl.runs.record import EpisodeRecord
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Model


@runtime_checkable
class Writer(Protocol):
    """A predictor that writes answers."""

    def generate(self, texts: Sequence[Fields]) -> list[str]:
        """Return one answer a text."""


def judge_written(
    learner: Learner,
    name: str,
    key: str,
    episode: Episode,
    backbone: Model,
    *,
    metrics: Sequence[str],
    pool: bool = False,
) -> EpisodeRecord:
    """Let a learner adapt to an episode's support set and answer its queries, and count the cost.

    Args:
        learner: whose predictor is a `Writer`.
        name: its name in the run.
        key: its key, see `icl.runs.keys`.
        episode: without labels; the queries' references are not shown to the learner.
        backbone: whose meters are read.
        metrics: names of `icl.metrics.written.METRICS`, the first of which is the task's own.
        pool: whether the learner is shown the episode's pool after the support set.

    Raises:
        IclError: the learner cannot write, or a metric is unknown or not installed.
        ValueError: there is not one answer a query.
    """
    support = (*episode.support, *episode.pool) if pool else episode.support
    with Bill(backbone) as bill:
        predictor = learner.adapt(support, episode.labels)
        if not isinstance(predictor, Writer):
            raise IclError(cannot_write(name, learner.method, episode.task))
        texts = predictor.generate([example.fields for example in episode.query])
    if len(texts) != len(episode.query):
        raise ValueError(f"{len(texts)} answers were written to {len(episode.query)} queries")
    references = [example.label for example in episode.query]
    return EpisodeRecord(
        learner=name,
        method=learner.method,
        learner_key=key,
        fingerprint=episode.fingerprint,
        task=episode.task,
        setting=episode.setting,
        split=episode.split,
        index=episode.index,
        ways=0,
        shots=episode.shots,
        support_language=episode.support_language,
        query_language=episode.query_language,
        labels=(),
        query_ids=tuple(example.id for example in episode.query),
        parallel_ids=tuple(example.parallel_id for example in episode.query),
        log_probs=(),
        predictions=(),
        gold=(),
        cost=bill.cost(predictor.trained_parameters),
        transductive=learner.transductive,
        texts=tuple(texts),
        references=tuple(references),
        scores={metric: written.scores(metric, texts, references) for metric in metrics},
    )


def cannot_write(name: str, method: str, task: str) -> str:
    """Say that a learner labels queries and cannot take part in a generation task."""
    return (
        f"The learner {name!r} labels queries by the method {method!r} and cannot write the answers"
        f" of the generation task {task!r}; leave one of them out, or take"
        " in-context or zero-shot."
    )

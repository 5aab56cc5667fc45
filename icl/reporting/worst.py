"""The worst episodes as a reader wants to see them: the prompt, the right answer, what was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from icl.evaluation.summary import Summary
from icl.evaluation.worst import WorstEpisode
from icl.reporting.numbers import percent

if TYPE_CHECKING:
    from icl.episodes import Episode

Find: TypeAlias = "Callable[[str], Episode]"  # an episode by its fingerprint

_LONGEST = 12_000  # characters of a text that are shown; of a longer one both ends


@dataclass(frozen=True, slots=True)
class Answer:
    """What one learner said: `score` is its share of the episode, formatted."""

    learner: str
    text: str
    right: bool
    score: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the worst episodes.

    Attributes:
        title: the episode in a few words.
        score: the best learner's.
        examples: the instruction and demonstrations, in the task's own template; empty where there
            are none or the episode is not at hand.
        query: the query in that template, or the first question about it; empty where the episode
            is not at hand.
        gold: the right answer.
        answers: of all learners, in the order of the leader board.
    """

    title: str
    score: str
    examples: str
    query: str
    gold: str
    answers: tuple[Answer, ...]


def shown(summary: Summary, find: Find | None) -> tuple[Shown, ...]:
    """Return the summary's worst episodes.

    Args:
        summary: of the run.
        find: the run's episodes; None: only the records are at hand.
    """
    return tuple(_shown(summary, worst, find) for worst in summary.worst)


def _shown(summary: Summary, worst: WorstEpisode, find: Find | None) -> Shown:
    record, at = worst.record, worst.query
    episode = None if find is None else find(record.fingerprint)
    languages = record.query_language
    if record.support_language != languages:
        languages = f"{record.support_language} → {languages}"
    shots = f"{record.shots} shot{'' if record.shots == 1 else 's'}"
    names = [row.learner for row in summary.overall.rows]

    def read(answer: str) -> str:
        return answer if episode is None else episode.kind.show(answer, episode.labels)

    def said(learner: str) -> Answer:
        own = worst.records[learner]
        text = own.texts[at] if own.scored else own.labels[own.predictions[at]]
        right = own.outcomes(summary.metric)[at] >= 1
        return Answer(learner, read(text), right, percent(worst.scores[learner], 0))

    posed = None if episode is None else replace(episode, query=(episode.query[at],)).posed()
    return Shown(
        title=f"{record.task}, {record.setting}, {shots}, {languages}",
        score=percent(worst.scores[names[0]], 0),
        examples="" if posed is None else _examples(posed),
        query="" if posed is None else _cut(posed.labels.template.render(posed.query[0].fields)),
        gold=read(record.references[at] if record.scored else record.labels[record.gold[at]]),
        answers=tuple(said(name) for name in names),
    )


def _examples(episode: Episode) -> str:
    labels = episode.labels
    words = dict(zip(labels.names, labels.words, strict=True))
    shown = [(e.fields, words.get(e.label, e.label)) for e in episode.support]
    return _cut(labels.template.prefix(shown).strip())


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n\n[… {len(text) - 2 * half:,} characters …]\n\n{text[-half:]}"

"""Where the best learner fails most: its worst episodes, so that a reader can look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icl.evaluation.grid import Grid
from icl.runs.record import EpisodeRecord

COUNT = 5


@dataclass(frozen=True, slots=True)
class WorstEpisode:
    """One episode, and what each learner did on it.

    Attributes:
        scores: each learner's mean over the episode's queries, as a share.
        query: the place of the first query that the chosen learner answers worst.
        records: each learner's record of the episode.
    """

    scores: Mapping[str, float]
    query: int
    records: Mapping[str, EpisodeRecord]

    @property
    def record(self) -> EpisodeRecord:
        """Any learner's record: what they say of the episode itself is the same."""
        return next(iter(self.records.values()))


def worst_episodes(
    whole: Grid, metric: str, learner: str, count: int = COUNT
) -> tuple[WorstEpisode, ...]:
    """Return the episodes on which a learner scores lowest, the lowest first.

    Of equals the one comes first on which all learners together score lower. Episodes on which the
    learner makes no mistake are left out.

    Args:
        whole: the records.
        metric: what they are scored by.
        learner: whose worst episodes.
        count: at most so many.
    """
    found = []
    for row in whole.episodes:
        scores = {record.learner: _mean(record.outcomes(metric)) for record in row}
        own = next(record for record in row if record.learner == learner)
        if scores[learner] < 1:
            outcomes = own.outcomes(metric)
            found.append(
                WorstEpisode(
                    scores=scores,
                    query=outcomes.index(min(outcomes)),
                    records={record.learner: record for record in row},
                )
            )
    found.sort(key=lambda e: (e.scores[learner], _mean(tuple(e.scores.values()))))  # stable
    return tuple(found[:count])


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)

"""`Grid`: learners against episodes, the episodes that all of them have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from icl.errors import IclError
from icl.evaluation.draws import clustered, draws
from icl.runs.record import ACCURACY, EpisodeRecord

if TYPE_CHECKING:
    from icl.evaluation.statistics import ClusteredSample


_SHUFFLED = "+shuffled-labels"  # ends a setting's name, see `icl.episodes.variants`


@dataclass(frozen=True, slots=True)
class Grid:
    """Records as a full grid: every learner has exactly one record of every episode.

    Attributes:
        learners: sorted by name, so that the order of writing changes nothing.
        episodes: one record of each learner, in the order of `learners`, for each episode.
        left_out: learner -> how many of its records stand for episodes that others lack.
    """

    learners: tuple[str, ...]
    episodes: tuple[tuple[EpisodeRecord, ...], ...]
    left_out: Mapping[str, int]

    def where(
        self,
        *,
        setting: str | None = None,
        shots: int | None = None,
        language: str | None = None,
        metric: str | None = None,
    ) -> Grid:
        """Return the grid of the episodes of a setting, shots, query language and metric."""
        kept = tuple(
            row
            for row in self.episodes
            if setting in {None, row[0].setting}
            and shots in {None, row[0].shots}
            and language in {None, row[0].query_language}
            and (metric is None or metric in row[0].metrics)
        )
        return Grid(self.learners, kept, self.left_out)

    @property
    def plain(self) -> Grid:
        """The grid of the episodes whose labels are their own; the whole where there are none.

        See `icl.episodes.variants`: episodes with changed labels ask something else.
        """
        kept = tuple(row for row in self.episodes if not row[0].changed)
        return Grid(self.learners, kept or self.episodes, self.left_out)

    def shuffled(self) -> Grid | None:
        """Return the grid of the episodes whose examples' labels were shuffled, if there are any.

        They are the control of `plain`: who is as good on them has not learned from the labels.
        """
        kept = tuple(row for row in self.episodes if row[0].setting.endswith(_SHUFFLED))
        return Grid(self.learners, kept, self.left_out) if kept else None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that judge the episodes: accuracy first, then as they appear."""
        found = dict.fromkeys(name for row in self.episodes for name in row[0].metrics)
        return tuple(sorted(found, key=lambda name: name != ACCURACY))

    @property
    def draws(self) -> int:
        """How many draws stand behind the episodes, see `icl.evaluation.draws`."""
        return len(set(draws(row[0] for row in self.episodes)))

    @property
    def queries(self) -> int:
        """The number of queries over all episodes."""
        return sum(len(row[0].query_ids) for row in self.episodes)

    def chance(self, metric: str) -> float:
        """Return what guessing evenly scores by a metric: the mean over episodes."""
        return sum(row[0].guessing(metric) for row in self.episodes) / len(self.episodes)

    @property
    def commonest(self) -> float | None:
        """What always giving the label that is most often right scores: the mean over episodes.

        In each episode that is the label which its task's queries have most often, over all
        episodes in which it could be given. It is what queries that are drawn as they come give
        away for nothing, where `chance` says what guessing evenly does. None for other kinds of
        tasks than one label out of several.
        """
        if self.episodes[0][0].scored:
            return None
        asked, could = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        records = [row[0] for row in self.episodes]
        for record in records:
            could.update((record.task, name) for name in record.labels)
            for label in record.gold:
                asked[record.task, record.labels[label]] += 1
        right = 0.0
        for record in records:
            rates = [asked[record.task, n] / could[record.task, n] for n in record.labels]
            right += record.gold.count(rates.index(max(rates))) / len(record.gold)
        return right / len(self.episodes)

    @property
    def balanced(self) -> bool:
        """Whether each episode asks for all of its labels equally often, up to a remainder."""
        return all(_even(row[0]) for row in self.episodes)

    def of(self, learner: str) -> list[EpisodeRecord]:
        """Return a learner's records, an episode each."""
        column = self.learners.index(learner)
        return [row[column] for row in self.episodes]

    def scores(self, metric: str) -> ClusteredSample:
        """Return each learner's score of each query, clustered by draw and by item.

        See `icl.evaluation.draws`. All episodes need the metric.
        """
        return clustered([self.of(name) for name in self.learners], metric)


def grid(records: Iterable[EpisodeRecord]) -> Grid:
    """Line records up by episode, keeping the episodes that every learner has done.

    Raises `IclError` where there is no such episode, where a learner's records stem from two
    versions of it, or where two learners disagree about what an episode's queries are.
    """
    table: dict[str, dict[str, EpisodeRecord]] = {}
    keys: dict[str, str] = {}
    for record in records:
        if keys.setdefault(record.learner, record.learner_key) != record.learner_key:
            raise IclError(
                f"The records of {record.learner!r} stem from two versions of it "
                f"({keys[record.learner]} and {record.learner_key}); "
                "compare them under two names, or start a new run folder."
            )
        table.setdefault(record.fingerprint, {}).setdefault(record.learner, record)
    learners = tuple(sorted(keys))
    if not learners:
        raise IclError("There are no records to report on; run an experiment first.")
    common = [tuple(row[n] for n in learners) for row in table.values() if len(row) == len(keys)]
    if not common:
        done = {name: sum(name in row for row in table.values()) for name in learners}
        raise IclError(
            "No episode was finished by every learner "
            f"({', '.join(f'{name}: {count}' for name, count in done.items())}); "
            "let the run go on, it resumes where it was."
        )
    for row in common:
        _agree(row)
    common.sort(key=lambda row: (row[0].setting, row[0].shots, row[0].index, row[0].fingerprint))
    left_out = {
        name: extra
        for name in learners
        if (extra := sum(name in row for row in table.values()) - len(common))
    }
    return Grid(learners, tuple(common), left_out)


def _even(record: EpisodeRecord) -> bool:
    counts = Counter(record.gold)
    asked = [counts[label] for label in range(record.ways)]
    return bool(asked) and max(asked) - min(asked) <= 1


def _agree(row: Sequence[EpisodeRecord]) -> None:
    first, asked = row[0], attrgetter("gold", "query_ids", "labels", "references", "metrics")
    for other in row[1:]:
        if asked(other) != asked(first):
            raise IclError(
                f"{first.learner!r} and {other.learner!r} have other queries under the episode "
                f"fingerprint {first.fingerprint}; start a new run folder."
            )

"""What a board's reader is warned of: floors that are not beaten, and learners of one answer.

A *floor* is a method that uses no language model, such as TF-IDF or the majority; its class says so
(``floor = True``). A learner beats it where the 95 % interval of their paired difference over all
episodes, as in `icl.evaluation.pairs` and not corrected, lies above zero; else it is told. So of
learners that are truly like the floor 97.5 in 100 are told: the warning says that a lead is not
shown, not that there is none.

A learner gives *one answer* where, episode by episode, the label that it gives most often takes at
least `NEARLY_ALL` of its answers, although in none of these episodes more than `HALF` of the
queries have one and the same right label. Episodes of fewer than `ENOUGH` queries say little alone:
those of one task with the same labels count as one. With fewer than twice as many queries in all,
nothing is said. Who guesses between two labels by lot is told in one of 1,200 runs of 20 queries,
with more queries or labels less often. Floors are not told of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.runs.record import EpisodeRecord

if TYPE_CHECKING:
    from icl.evaluation.grid import Grid
    from icl.evaluation.pairs import Pair

NEARLY_ALL, HALF, ENOUGH = 0.9, 0.5, 10


@dataclass(frozen=True, slots=True)
class Unbeaten:
    """A learner that does not beat a floor.

    Attributes:
        learner, floor: their names.
        score: the floor's mean.
        difference, low, high: the learner's mean less the floor's, with its 95 % interval.
    """

    learner: str
    floor: str
    score: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """A learner that gives nearly all queries of an episode one label.

    Attributes:
        learner: its name.
        share: of its answers, those with the label that it gives most often in their episode.
        right: the share of these queries whose right label that is.
        queries: how many were looked at.
    """

    learner: str
    share: float
    right: float
    queries: int


@dataclass(frozen=True, slots=True)
class Alarms:
    """All warnings of a board, floors by their means, learners by name."""

    unbeaten: tuple[Unbeaten, ...] = ()
    one_answer: tuple[OneAnswer, ...] = ()


def alarms(part: Grid, metric: str, pairs: Sequence[Pair]) -> Alarms:
    """Return what a reader of some episodes' board must be warned of.

    Args:
        part: the episodes.
        metric: what is compared.
        pairs: all pairs of learners on them.
    """
    from icl.learners.registry import known_class

    first = part.episodes[0]
    floors = {r.learner for r in first if getattr(known_class(r.method), "floor", False)}
    means = dict(zip(part.learners, part.scores(metric).mean.tolist(), strict=True))
    unbeaten = []
    for pair in pairs:
        for learner, floor, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            if floor in floors and learner not in floors:
                low, high = sorted((sign * pair.low, sign * pair.high))
                if not low > 0:
                    gap = sign * pair.difference
                    unbeaten.append(Unbeaten(learner, floor, means[floor], gap, low, high))
    others = [name for name in part.learners if name not in floors]
    found = (one_answer(part.of(name)) for name in others)
    return Alarms(
        tuple(sorted(unbeaten, key=lambda one: (-one.score, one.floor, one.difference))),
        tuple(one for one in found if one is not None),
    )


def one_answer(records: Sequence[EpisodeRecord]) -> OneAnswer | None:
    """Return what is told of one learner's records where it gives one answer, else None."""
    given: dict[tuple[str, ...], Counter[str]] = {}
    right: dict[tuple[str, ...], Counter[str]] = {}
    for record in records:
        if record.scored:
            return None
        alone = len(record.predictions) >= ENOUGH
        labels = tuple(sorted(record.labels))
        unit = (record.fingerprint,) if alone else (record.task, *labels)
        for counts, columns in ((given, record.predictions), (right, record.gold)):
            names = [record.labels[column] for column in columns]
            counts.setdefault(unit, Counter()).update(names)
    most = hits = queries = 0
    for unit, answers in given.items():
        total = answers.total()
        if total >= ENOUGH and max(right[unit].values()) <= HALF * total:
            [(name, times)] = answers.most_common(1)
            most, hits, queries = most + times, hits + right[unit][name], queries + total
    if queries < 2 * ENOUGH or most < NEARLY_ALL * queries:
        return None
    return OneAnswer(records[0].learner, most / queries, hits / queries, queries)

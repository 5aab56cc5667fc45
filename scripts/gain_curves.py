"""Points of curves out of a run's records, and their figures and tables; see `when_it_pays.py`.

All learners of a run are judged on identical episodes. A curve's point is a meta-trained learner at
one value of what is varied; where it was trained several times (with other orders of adding
languages or classes), each query's outcome is the mean over these trainings, so that the interval
is about new draws and new items, the trainings being what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icl.evaluation.grid import Grid, grid
from icl.evaluation.power import components, draws_for_width
from icl.evaluation.statistics import ClusteredSample, Differences
from icl.runs.record import ACCURACY, EpisodeRecord

PLAIN, BY_LOT = "within", "within+shuffled-labels"
UNTRAINED = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One learner of a run as a place on a curve.

    Attributes:
        name: the learner's name in the records.
        learner: whose curve it is on.
        x: where on the curve; at `UNTRAINED` it is the learner before meta-training.
        order: which of several trainings at this place.
    """

    name: str
    learner: str
    x: float
    order: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A share, or a difference of shares, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Point:
    """A meta-trained learner at one place of a curve and one number of shots.

    Attributes:
        accuracy: on the episodes' own labels.
        control: accuracy where the support's labels are dealt by lot; None where that was not run.
        chance: what guessing evenly scores.
        floor: the learner without meta-training that is best on these very episodes.
        over_floor: accuracy less the floor's, paired.
        over_itself: accuracy less that of the same learner untrained, paired; None for that one.
        trainings: the accuracy of each training at this place.
        draws: how many draws stand behind it.
    """

    learner: str
    x: float
    shots: int
    accuracy: Interval
    control: Interval | None
    chance: float
    floor: str
    over_floor: Interval
    over_itself: Interval | None
    trainings: tuple[float, ...]
    draws: int


def curve(
    records: Iterable[EpisodeRecord],
    trials: Sequence[Trial],
    floors: Sequence[str],
    *,
    split: str | None = None,
) -> tuple[Point, ...]:
    """Return the points of a curve, by shots, learner and place.

    Args:
        records: of a run, with the floors and all trials; other learners are left out.
        trials: of the curve.
        floors: names of learners without meta-training.
        split: of the episodes; None for all.

    Raises:
        IclError: there is no episode that all of them have done.
    """
    wanted = {*floors, *(trial.name for trial in trials)}
    whole = grid(r for r in records if r.learner in wanted and split in {None, r.split})
    found = []
    for shots in sorted({row[0].shots for row in whole.episodes}):
        found += _at(whole, trials, floors, shots)
    return tuple(found)


def _at(whole: Grid, trials: Sequence[Trial], floors: Sequence[str], shots: int) -> list[Point]:
    part = whole.where(setting=PLAIN, shots=shots)
    by_lot = whole.where(setting=BY_LOT, shots=shots)
    groups = _groups(trials)
    sample = _pooled(part, [[name] for name in floors] + list(groups.values()))
    row = {place: len(floors) + n for n, place in enumerate(groups)}
    means, paired = sample.means(), sample.differences()
    best = int(means.mean[: len(floors)].argmax())
    controls = None
    if by_lot.episodes:
        controls = _pooled(by_lot, list(groups.values())).means()
    own = part.scores(ACCURACY).mean
    found = []
    for n, ((learner, x), names) in enumerate(groups.items()):
        i = row[learner, x]
        untrained = row.get((learner, UNTRAINED))
        found.append(
            Point(
                learner=learner,
                x=x,
                shots=shots,
                accuracy=_interval(means, i),
                control=None if controls is None else _interval(controls, n),
                chance=part.chance(ACCURACY),
                floor=floors[best],
                over_floor=_difference(paired, i, best),
                over_itself=None
                if untrained in {None, i}
                else _difference(paired, i, int(untrained or 0)),
                trainings=tuple(float(own[part.learners.index(name)]) for name in names),
                draws=part.draws,
            )
        )
    return found


def _groups(trials: Sequence[Trial]) -> dict[tuple[str, float], list[str]]:
    """Return the names of the trainings at each place, by learner and then by place."""
    learners = list(dict.fromkeys(trial.learner for trial in trials))
    ordered = sorted(trials, key=lambda t: (learners.index(t.learner), t.x, t.order))
    found: dict[tuple[str, float], list[str]] = {}
    for trial in ordered:
        found.setdefault((trial.learner, trial.x), []).append(trial.name)
    return found


def _pooled(part: Grid, groups: Sequence[Sequence[str]]) -> ClusteredSample:
    """Return a series for each group of learners: the mean outcome of each query over them."""
    sample = part.scores(ACCURACY)
    rows = [sample.values[[part.learners.index(name) for name in group]] for group in groups]
    return replace(sample, values=np.stack([row.mean(0) for row in rows]))


def _interval(means: Any, i: int) -> Interval:
    return Interval(float(means.mean[i]), float(means.low[i]), float(means.high[i]))


def _difference(paired: Differences, i: int, j: int) -> Interval:
    one = paired.of(i, j)
    return Interval(one.value, one.low, one.high)


def pays_from(found: Sequence[Point], learner: str, shots: int) -> float | None:
    """Return the place from which on all gains over the floor have intervals above zero, or None.

    The untrained learner is no place where meta-training could pay.
    """
    own = [p for p in found if (p.learner, p.shots) == (learner, shots) and p.x != UNTRAINED]
    since = None
    for p in sorted(own, key=lambda p: -p.x):
        if p.over_floor.low <= 0:
            break
        since = p.x
    return since


def since_the_peak(
    records: Iterable[EpisodeRecord], trials: Sequence[Trial], *, split: str, shots: int
) -> dict[str, tuple[float, dict[float, Interval]]]:
    """Return, by learner, where it is best and its accuracy less that, paired, at each later place.

    A place of a curve after its peak whose interval lies below zero has lost by going on.
    """
    wanted = {trial.name for trial in trials}
    whole = grid(r for r in records if r.learner in wanted and r.split == split)
    groups = _groups(trials)
    sample = _pooled(whole.where(setting=PLAIN, shots=shots), list(groups.values()))
    places, paired = list(groups), sample.differences()
    found = {}
    for learner in dict.fromkeys(name for name, _ in places):
        own = [i for i, (name, _) in enumerate(places) if name == learner]
        peak = max(own, key=lambda i: round(float(sample.mean[i]), 12))
        later = {places[i][1]: _difference(paired, i, peak) for i in own if i > peak}
        found[learner] = (places[peak][1], later)
    return found


def draws_needed(
    records: Iterable[EpisodeRecord], learners: Sequence[str], against: str, wanted: float
) -> dict[tuple[str, int], int | None]:
    """Return how many draws the paired difference to one learner needs, by learner and shots.

    Args:
        records: a pilot.
        learners: those compared.
        against: what they are compared with.
        wanted: half the width that the 95 % interval may have.

    Returns:
        None where no number of draws is enough, since there are too few items to draw from.
    """
    whole = grid(r for r in records if r.learner in {*learners, against})
    found: dict[tuple[str, int], int | None] = {}
    for shots in sorted({row[0].shots for row in whole.episodes}):
        part = whole.where(setting=PLAIN, shots=shots)
        sample, second = part.scores(ACCURACY), part.learners.index(against)
        for name in learners:
            parts = components(sample, part.learners.index(name), second)
            found[name, shots] = draws_for_width(parts, wanted)
    return found

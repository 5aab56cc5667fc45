"""How much the way of asking matters: spread, causes and an honest best prompt.

The records are those of a full factorial: every combination of the factors' levels (a cell, here a
prompt) on the same episodes, at the same numbers of shots.

What explains the variance of the cells: `icl.evaluation.decomposition`.

**The best prompt** is the cell with the highest accuracy on the validation episodes. Its accuracy
there is too good to be true, since it was chosen for it; what it does on the test episodes is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icl.errors import IclError
from icl.evaluation.decomposition import Effect, decompose
from icl.evaluation.draws import draws
from icl.evaluation.grid import Grid, grid
from icl.evaluation.statistics import Difference, Floats
from icl.runs.record import ACCURACY, EpisodeRecord

SHOTS = "shots"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean accuracy with its 95 % interval, as shares."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Test accuracies of all prompts at one number of shots.

    Attributes:
        shots: examples per class.
        accuracies: by prompt.
        mean, deviation, lowest, highest: of the accuracies; the deviation is that of a population.
        chance: what even guessing scores.
    """

    shots: int
    accuracies: Mapping[str, float]
    mean: float
    deviation: float
    lowest: float
    highest: float
    chance: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The prompt chosen on validation episodes, at one number of shots.

    Attributes:
        shots: examples per class.
        prompt: its name.
        validation: its accuracy where it was chosen: optimistic.
        test: its accuracy on the test episodes: honest.
        default: the first level of every factor, on the test episodes.
        difference: test accuracy less the default's, paired, with its interval.
        p: of the difference.
        hindsight: the highest test accuracy of any prompt, which nobody could have chosen.
    """

    shots: int
    prompt: str
    validation: Estimate
    test: Estimate
    default: Estimate
    difference: Estimate
    p: float
    hindsight: float


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a factor: its mean test accuracy over all prompts that have it."""

    factor: str
    level: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a prompt study says.

    Attributes:
        factors: their names with their levels, shots last.
        prompts: how many there are.
        validation_episodes, test_episodes: how many draws each was judged on, an episode of each
            at each number of shots.
        deviation: of the cell means over all shots, as a share.
        effects: single factors and pairs, the largest share first.
        rest: the share of interactions of three and more factors.
        levels: in the order of the factors.
        spreads, choices: one a number of shots.
    """

    factors: Mapping[str, tuple[str, ...]]
    prompts: int
    validation_episodes: int
    test_episodes: int
    deviation: float
    effects: tuple[Effect, ...]
    rest: float
    levels: tuple[Level, ...]
    spreads: tuple[Spread, ...]
    choices: tuple[Choice, ...]

    @property
    def default(self) -> str:
        """The prompt made of every factor's first level."""
        return next(iter(self.spreads[0].accuracies))


def sensitivity(
    records: Sequence[EpisodeRecord],
    prompts: Mapping[str, Mapping[str, str]],
    *,
    validation: str,
    test: str,
) -> Sensitivity:
    """Analyse a prompt study.

    Args:
        records: of all prompts on all episodes; the record's learner is the prompt's name.
        prompts: each prompt's levels by factor, in the order of a full factorial whose first
            prompt has every factor's first level.
        validation, test: the names of the episodes' splits.

    Raises:
        IclError: a prompt has not done all the episodes yet, or a split has none.
    """
    parts = {
        split: grid([r for r in records if r.split == split and r.learner in prompts])
        for split in (validation, test)
    }
    for split, part in parts.items():
        if part.left_out or set(part.learners) != set(prompts):
            raise IclError(
                f"Not every prompt has done all {split} episodes yet; run the study again, it goes "
                "on where it was."
            )
    shots = tuple(sorted({row[0].shots for row in parts[test].episodes}))
    names = list(next(iter(prompts.values())))
    factors = {
        name: tuple(dict.fromkeys(levels[name] for levels in prompts.values())) for name in names
    }
    factors[SHOTS] = tuple(map(str, shots))
    values = _array(parts[test], prompts, factors, shots)
    effects, rest = decompose(values, tuple(factors))
    spreads = tuple(_spread(parts[test], prompts, number) for number in shots)
    means = values.mean(-1)
    return Sensitivity(
        factors=factors,
        prompts=len(prompts),
        validation_episodes=parts[validation].draws,
        test_episodes=values.shape[-1],
        deviation=float(means.std()),
        effects=effects,
        rest=rest,
        levels=tuple(
            Level(name, level, float(means.take(i, axis).mean()))
            for axis, (name, levels) in enumerate(factors.items())
            for i, level in enumerate(levels)
        ),
        spreads=spreads,
        choices=tuple(
            _choice(records, parts[validation], s, validation=validation, test=test)
            for s in spreads
        ),
    )


def _array(
    part: Grid,
    prompts: Mapping[str, Mapping[str, str]],
    factors: Mapping[str, tuple[str, ...]],
    shots: Sequence[int],
) -> Floats:
    """Lay accuracies out by factor, shots and draw; a draw has the same queries at all shots."""
    by_draw: dict[int, dict[int, list[tuple[EpisodeRecord, ...]]]] = {}
    for draw, row in zip(draws(row[0] for row in part.episodes), part.episodes, strict=True):
        by_draw.setdefault(draw, {}).setdefault(row[0].shots, []).append(row)
    whole = [rows for rows in by_draw.values() if len(rows) == len(shots)]
    if not whole:
        raise IclError("No test episode was done at every number of shots; run the study again.")
    values = np.full((*map(len, factors.values()), len(whole)), np.nan)
    for column, name in enumerate(part.learners):
        at = tuple(factors[f].index(prompts[name][f]) for f in prompts[name])
        for i, number in enumerate(shots):
            values[(*at, i)] = [
                sum(row[column].accuracy for row in rows[number]) / len(rows[number])
                for rows in whole
            ]
    if np.isnan(values).any():
        raise IclError("The prompts are not a full factorial: a combination of levels is missing.")
    return values


def _means(part: Grid) -> dict[str, float]:
    return dict(zip(part.learners, part.scores(ACCURACY).mean.tolist(), strict=True))


def _spread(part: Grid, prompts: Mapping[str, object], shots: int) -> Spread:
    found = part.where(shots=shots)
    mean = _means(found)
    accuracies = {name: mean[name] for name in prompts}
    values = list(accuracies.values())
    return Spread(
        shots=shots,
        accuracies=accuracies,
        mean=float(np.mean(values)),
        deviation=float(np.std(values)),
        lowest=min(values),
        highest=max(values),
        chance=found.chance(ACCURACY),
    )


def _choice(
    records: Sequence[EpisodeRecord],
    validation_part: Grid,
    spread: Spread,
    *,
    validation: str,
    test: str,
) -> Choice:
    default = next(iter(spread.accuracies))
    mean = _means(validation_part.where(shots=spread.shots))
    # of equals the earlier in the grid, which is nearer to the default
    chosen = max(spread.accuracies, key=lambda name: round(mean[name], 12))

    def pair(split: str) -> tuple[dict[str, Estimate], Difference]:
        wanted = {chosen, default}
        part = grid([r for r in records if r.split == split and r.learner in wanted])
        part = part.where(shots=spread.shots)
        sample = part.scores(ACCURACY)
        means = sample.means()
        estimates = {
            name: Estimate(float(means.mean[i]), float(means.low[i]), float(means.high[i]))
            for i, name in enumerate(part.learners)
        }
        d = sample.differences().of(part.learners.index(chosen), part.learners.index(default))
        return estimates, d

    at_validation, _ = pair(validation)
    at_test, d = pair(test)
    return Choice(
        shots=spread.shots,
        prompt=chosen,
        validation=at_validation[chosen],
        test=at_test[chosen],
        default=at_test[default],
        difference=Estimate(d.value, d.low, d.high),
        p=d.p,
        hindsight=spread.highest,
    )

"""How much was done to choose the learners' values: the same for all, or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from icl.reporting.numbers import count, duration, metric_name, percent

if TYPE_CHECKING:
    from icl.runs.trials import Tuned, Tuning

DEFAULTS = (
    "Effort: defaults. Every learner ran with the values that the configuration gives; none were"
    " searched."
)
EFFORT_HEADS = ("Trials", "Configured", "Chosen", "Time", "Tokens")


def effort(tuning: Tuning | None) -> str:
    """Say in a few sentences how the learners' values came about."""
    if tuning is None:
        return DEFAULTS
    asked, learners = tuning.trials, tuning.learners
    said = [
        f"Effort: {asked} trial{'s' * (asked != 1)} of each learner, on the same"
        f" {tuning.episodes} validation episode{'s' * (tuning.episodes != 1)} of the split"
        f" {tuning.split!r}, none of them judged on here; the highest mean"
        f" {metric_name(tuning.metric)} was chosen, of equals the first, and the first trial is the"
        " configured one."
    ]
    nothing = [name for name, own in learners.items() if not own.search]
    fewer = {n: len(o.trials) for n, o in learners.items() if o.search and len(o.trials) < asked}
    if nothing:
        has = "has" if len(nothing) == 1 else "have"
        said.append(f"{', '.join(nothing)} {has} nothing to search, and one trial.")
    if fewer:
        told = ", ".join(f"{name} {number}" for name, number in fewer.items())
        said.append(f"Smaller grids end earlier: {told}.")
    said.append(
        "A meta-learner was trained anew for each trial; the chosen training counts here as well as"
        " under meta-training."
    )
    return " ".join(said)


def effort_beside(tunings: Mapping[str, Tuning | None]) -> str:
    """Say the same of several runs that are compared, by their names."""
    if not any(tunings.values()):
        return DEFAULTS
    told = [
        f"{name} by {tuning.trials} trials of each learner on {tuning.episodes} validation episodes"
        if tuning
        else f"{name} not at all"
        for name, tuning in tunings.items()
    ]
    same = len({t and (t.trials, t.fingerprint) for t in tunings.values()}) == 1
    return (
        f"Effort: values were searched for in {'; in '.join(told)}."
        f"{'' if same else ' These efforts differ, and so may the learners for this alone.'}"
    )


def effort_rows(tuning: Tuning) -> list[tuple[str, ...]]:
    """Return a row a learner: its name, what was chosen, then the figures of `EFFORT_HEADS`."""
    return [
        (
            name,
            chosen(own),
            str(len(own.trials)),
            percent(own.trials[0].score),
            percent(own.best.score),
            duration(sum(trial.seconds for trial in own.trials)),
            count(sum(trial.tokens for trial in own.trials)),
        )
        for name, own in tuning.learners.items()
    ]


def trial_rows(tuning: Tuning) -> list[tuple[str, ...]]:
    """Return a row a trial: the learner, its values, the score, time, tokens."""
    return [
        (
            f"{name}{' (chosen)' * (trial is own.best)}",
            written(trial.values) or "as configured",
            percent(trial.score),
            duration(trial.seconds),
            count(trial.tokens),
        )
        for name, own in tuning.learners.items()
        for trial in own.trials
    ]


def chosen(own: Tuned) -> str:
    """Say what was chosen, as far as it is not what was configured."""
    if not own.search:
        return "nothing to search"
    return written(own.changes) or "as configured"


def written(values: Mapping[str, Any]) -> str:
    """Write values as a configuration does.

    >>> written({"C": 1.0, "whiten": True, "pooling": None, "template": "arrow"})
    'C: 1.0, whiten: true, pooling: null, template: arrow'
    """
    return ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )

"""Rows and boards: learners side by side on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icl.runs.record import ACCURACY


@dataclass(frozen=True, slots=True)
class Row:
    """One learner on one board.

    Attributes:
        accuracy, low, high: mean over episodes with its 95 % interval, as shares; of another metric
            than accuracy where the board says so.
        above_chance: whether the whole interval lies above the board's chance level.
        difference, difference_low, difference_high: accuracy less the best learner's, paired on
            identical episodes, with its 95 % interval (the best itself: zeros).
        p: p-value of that difference, Holm-corrected over all pairs of learners (the best: 1).
        seconds, prompt_tokens, computed_tokens: means an episode (adaptation and prediction).
        shared: the share of the computed tokens that a cache saved, since another learner or
            episode had computed the same; they are counted all the same.
        peak_memory_mb: the highest of any episode, in MiB.
        trained_parameters: numbers moved by adaptation or meta-training.
        forward_flops, backward_flops: means an episode; None where some were not counted.
        model: what its model is called, where learners on several models stand on the board.
        control: accuracy where the examples' labels were shuffled, over all such episodes;
            None where the run has none, and on boards of one setting or number of shots.
    """

    learner: str
    method: str
    accuracy: float
    low: float
    high: float
    above_chance: bool
    difference: float
    difference_low: float
    difference_high: float
    p: float
    seconds: float
    prompt_tokens: float
    computed_tokens: float
    peak_memory_mb: float
    trained_parameters: int
    forward_flops: float | None = None
    backward_flops: float | None = None
    shared: float = 0.0
    model: str | None = None
    control: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """All learners on the same episodes, the best first.

    Attributes:
        setting, shots: which episodes; None pools all whose labels were not changed.
        episodes, queries: how many each learner was judged on.
        draws: how many stand behind the episodes: what intervals count, since the shots of one
            draw share queries and supports (see `icl.evaluation.draws`).
        chance: what even guessing scores; 0 for written answers.
        metric: what the rows' figures are means of.
    """

    setting: str | None
    shots: int | None
    episodes: int
    queries: int
    draws: int
    chance: float
    rows: tuple[Row, ...]
    metric: str = ACCURACY

    @property
    def controlled(self) -> bool:
        """Whether its rows say what shuffled labels do to their learners."""
        return self.rows[0].control is not None

    @property
    def best(self) -> Row:
        """The learner with the highest accuracy; ties go to the first name."""
        return self.rows[0]

    def row(self, learner: str) -> Row:
        """Return a learner's row by name."""
        return next(row for row in self.rows if row.learner == learner)


@dataclass(frozen=True, slots=True)
class LanguageAccuracy:
    """Accuracy of each learner on the queries of one language in one setting."""

    setting: str
    language: str
    episodes: int
    queries: int
    accuracy: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MetaTraining:
    """What a learner spent before its first episode."""

    seconds: float
    tokens: int
    steps: int

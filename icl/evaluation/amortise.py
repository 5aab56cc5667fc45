"""What meta-training costs, spread over tasks: from how many tasks on it pays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icl.evaluation.board import MetaTraining, Row


@dataclass(frozen=True, slots=True)
class BreakEven:
    """A meta-trained learner against one that is not.

    Attributes:
        learner: meta-trained.
        other: not meta-trained, dearer for each task, and no more accurate on the same episodes.
        tasks_by_seconds, tasks_by_tokens: from so many tasks on the first has cost less in all,
            its meta-training included; None where the other is not dearer in that.
    """

    learner: str
    other: str
    tasks_by_seconds: int | None
    tasks_by_tokens: int | None


def break_even(
    rows: Iterable[Row], meta_training: Mapping[str, MetaTraining]
) -> tuple[BreakEven, ...]:
    """Return, for each meta-trained learner, from how many tasks on it pays against each other.

    An episode is a task. With T spent on meta-training, c and d on an episode by the two learners,
    n tasks cost T + n c against n d, so that it pays from n = T / (d - c) on. Others that are more
    accurate are left out: against them it never pays.

    Args:
        rows: of one board.
        meta_training: by learner, what was spent before the first episode.
    """
    rows = list(rows)
    found = []
    for row in rows:
        spent = meta_training.get(row.learner)
        if spent is None:
            continue
        for other in rows:
            if other.learner in meta_training or other.accuracy > row.accuracy:
                continue
            by_seconds = _tasks(spent.seconds, row.seconds, other.seconds)
            by_tokens = _tasks(spent.tokens, row.computed_tokens, other.computed_tokens)
            if by_seconds is not None or by_tokens is not None:
                found.append(BreakEven(row.learner, other.learner, by_seconds, by_tokens))
    return tuple(found)


def _tasks(once: float, each: float, other: float) -> int | None:
    return math.ceil(once / (other - each)) if other > each else None

"""How much memory a meta-training will need, told before it starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from icl.episodes import Episode
from icl.learners.base import MetaLearner
from icl.models.base import Model

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


def check_memory(learner: MetaLearner, model: Model, episodes: Sequence[Episode]) -> None:
    """Warn where the memory that a step on these episodes takes, as far as known, is not there."""
    needed = learner.memory_estimate(episodes)
    if needed is None:
        return
    free = 2 * cast("Backbone", model).budget()  # that of one pass is half of what is free
    if needed > free:
        warnings.warn(
            f"A meta-training step of {learner.method!r} will take about {needed / 2**30:.1f} GiB,"
            f" and {free / 2**30:.1f} GiB are free; set {less_memory(len(episodes))}.",
            stacklevel=4,
        )


def less_memory(tasks: int) -> str:
    """Say what to set where `tasks` tasks at once take too much memory.

    >>> less_memory(1)
    'fewer `queries` or a lower `top_layers`'
    """
    at_once = "`training.tasks_at_once: 1`, " if tasks > 1 else ""
    return f"{at_once}fewer `queries` or a lower `top_layers`"


def too_large(name: str, tasks: int) -> str:
    """Say that memory ran out in a learner's meta-training, `tasks` tasks at once, and the mend."""
    return (
        f"Memory ran out in the meta-training of {name!r}, {tasks} task(s) at once; set"
        f" {less_memory(tasks)}, which begins this training anew, or run again where memory is"
        " free, which goes on from the last checkpoint."
    )

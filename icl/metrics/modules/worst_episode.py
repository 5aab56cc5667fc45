"""For `evaluate.load`; see `icl.metrics.groups`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from icl.metrics import groups
from icl.metrics import module as base


class WorstEpisode(base.ColumnMetric):
    """Accuracy in the episode where it is lowest."""

    columns: ClassVar[Any] = {"episodes": base.strings()}

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> dict[str, Any]:
        """Return that accuracy and the episode."""
        episode, accuracy = groups.worst(right, more["episodes"])
        return {"worst_episode_accuracy": accuracy, "worst_episode": episode}

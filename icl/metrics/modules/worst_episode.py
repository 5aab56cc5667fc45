"""For `evaluate.load`; see `icl.metrics.groups`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icl.metrics import groups
from icl.metrics import module as base


class WorstEpisode(base.ColumnMetric):
    """Accuracy in the episode where it is lowest."""

    columns = ("episodes",)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> base.Figures:
        """Return that accuracy and the episode."""
        episode, accuracy = groups.worst(right, more["episodes"])
        return {"worst_episode_accuracy": accuracy, "worst_episode": episode}

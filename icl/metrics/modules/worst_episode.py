"""For `evaluate.load`; see `icl.metrics.groups`."""

from icl.metrics import module as base


class WorstEpisode(base.WorstMetric):
    """Accuracy in the episode where it is lowest."""

    columns = ("episodes",)

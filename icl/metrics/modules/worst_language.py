"""For `evaluate.load`; see `icl.metrics.groups`."""

from icl.metrics import module as base


class WorstLanguage(base.WorstMetric):
    """Accuracy in the language where it is lowest."""

    columns = ("languages",)

"""For `evaluate.load`; see `icl.metrics.labels`."""

from icl.metrics import labels
from icl.metrics import module as base


class Accuracy(base.LabelMetric):
    """The share of predictions that are right."""

    function = staticmethod(labels.accuracy)

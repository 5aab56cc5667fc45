"""For `evaluate.load`; see `icl.metrics.labels`."""

from icl.metrics import labels
from icl.metrics import module as base


class Mcc(base.LabelMetric):
    """Matthews' correlation coefficient, for any number of classes."""

    function = staticmethod(labels.mcc)

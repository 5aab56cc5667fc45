"""For `evaluate.load`; see `icl.metrics.labels`."""

from icl.metrics import labels
from icl.metrics import module as base


class BalancedAccuracy(base.LabelMetric):
    """The mean recall of the classes that occur."""

    function = staticmethod(labels.balanced_accuracy)

"""For `evaluate.load`; see `icl.metrics.labels`."""

from icl.metrics import base, labels


class BalancedAccuracy(base.LabelMetric):
    """The mean recall of the classes that occur."""

    function = staticmethod(labels.balanced_accuracy)

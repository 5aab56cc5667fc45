"""For `evaluate.load`; see `icl.metrics.labels`."""

from icl.metrics import labels
from icl.metrics import module as base


class MacroF1(base.LabelMetric):
    """The mean F1 of the classes that occur or are predicted."""

    function = staticmethod(labels.macro_f1)

"""For `evaluate.load`; see `icl.metrics.probabilities`."""

from icl.metrics import module as base
from icl.metrics import probabilities


class Brier(base.RowMetric):
    """The mean Brier score, summed over labels: 0 to 2."""

    function = staticmethod(probabilities.brier)

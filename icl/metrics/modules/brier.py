"""For `evaluate.load`; see `icl.metrics.probabilities`."""

from icl.metrics import base, probabilities


class Brier(base.RowMetric):
    """The mean Brier score, summed over labels: 0 to 2."""

    function = staticmethod(probabilities.brier)

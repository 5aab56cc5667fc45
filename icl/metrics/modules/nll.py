"""For `evaluate.load`; see `icl.metrics.probabilities`."""

from icl.metrics import module as base
from icl.metrics import probabilities


class Nll(base.RowMetric):
    """The mean negative log-likelihood of the right labels, in nats."""

    function = staticmethod(probabilities.nll)

"""For `evaluate.load`; see `icl.metrics.probabilities`."""

from icl.metrics import base, probabilities


class Nll(base.RowMetric):
    """The mean negative log-likelihood of the right labels, in nats."""

    function = staticmethod(probabilities.nll)

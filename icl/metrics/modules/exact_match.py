"""For `evaluate.load`; see `icl.metrics.texts`."""

from icl.metrics import module as base
from icl.metrics import texts


class ExactMatch(base.TextMetric):
    """The share of answers that are the reference, but for case and outer punctuation."""

    function = staticmethod(texts.exact_match)

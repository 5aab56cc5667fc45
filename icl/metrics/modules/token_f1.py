"""For `evaluate.load`; see `icl.metrics.texts`."""

from icl.metrics import module as base
from icl.metrics import texts


class TokenF1(base.TextMetric):
    """The mean F1 of an answer's tokens."""

    function = staticmethod(texts.token_f1)

"""For `evaluate.load`; see `icl.metrics.ngrams`. Needs the extra ``generation``."""

from icl.metrics import module as base
from icl.metrics import ngrams


class Chrf(base.TextMetric):
    """chrF as a share: the mean over answers, and of all answers together."""

    function = staticmethod(ngrams.chrf)
    corpus = staticmethod(ngrams.corpus_chrf)

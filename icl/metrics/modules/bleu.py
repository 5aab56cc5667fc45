"""For `evaluate.load`; see `icl.metrics.ngrams`. Needs the extra ``generation``."""

from icl.metrics import module as base
from icl.metrics import ngrams


class Bleu(base.TextMetric):
    """BLEU as a share: the mean over answers, and of all answers together."""

    function = staticmethod(ngrams.bleu)
    corpus = staticmethod(ngrams.corpus_bleu)

"""For `evaluate.load`; see `icl.metrics.ngrams`. Needs the extra ``generation``."""

from typing import Any

from icl.metrics import module as base
from icl.metrics import ngrams


class Rouge(base.TextMetric):
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, means over answers, for every script."""

    function = staticmethod(ngrams.rouge)

    def score(self, predictions: base.Many, references: base.Many, **more: Any) -> base.Figures:
        """Return the three means."""
        return dict(ngrams.rouge_scores(predictions, references))

"""For `evaluate.load`; see `icl.metrics.ngrams`. Needs the extra ``generation``."""

from collections.abc import Sequence
from typing import Any

from icl.metrics import module as base
from icl.metrics import ngrams


class Rouge(base.TextMetric):
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, means over answers, for every script."""

    function = staticmethod(ngrams.rouge)

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the three means."""
        return dict(ngrams.rouge_scores(predictions, references))

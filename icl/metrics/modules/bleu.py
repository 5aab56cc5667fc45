"""For `evaluate.load`; see `icl.metrics.ngrams`. Needs the extra ``generation``."""

from collections.abc import Sequence
from typing import Any

from icl.metrics import module as base
from icl.metrics import ngrams


class Bleu(base.TextMetric):
    """BLEU as a share: the mean over answers, and of all answers together."""

    function = staticmethod(ngrams.bleu)

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the mean over answers and the figure of the whole."""
        whole = ngrams.corpus_bleu(predictions, references)
        return super().score(predictions, references) | {"corpus_bleu": whole}

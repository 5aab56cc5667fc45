"""For `evaluate.load`; see `icl.metrics.open_set`."""

from typing import Any, ClassVar

import datasets

from icl.metrics import module as base
from icl.metrics import open_set


class Auroc(base.Module):
    """How well a score tells queries of known classes (reference 1) from those of none (0)."""

    inputs: ClassVar[Any] = ((datasets.Value("float64"), datasets.Value("int64")),)
    inputs_in_words = "`predictions` are scores, higher for known classes; `references` 1 or 0."

    def score(self, predictions: base.Many, references: base.Many, **more: Any) -> base.Figures:
        """Return the area under the receiver operating characteristic."""
        return {"auroc": open_set.auroc(predictions, [bool(r) for r in references])}

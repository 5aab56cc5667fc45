"""For `evaluate.load`; see `icl.metrics.groups`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icl.metrics import groups
from icl.metrics import module as base


class WorstLanguage(base.ColumnMetric):
    """Accuracy in the language where it is lowest."""

    columns = ("languages",)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> base.Figures:
        """Return that accuracy and the language."""
        language, accuracy = groups.worst(right, more["languages"])
        return {"worst_language_accuracy": accuracy, "worst_language": language}

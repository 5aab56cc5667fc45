"""For `evaluate.load`; see `icl.metrics.groups`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from icl.metrics import groups
from icl.metrics import module as base


class WorstLanguage(base.ColumnMetric):
    """Accuracy in the language where it is lowest."""

    columns: ClassVar[Any] = {"languages": base.strings()}

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> dict[str, Any]:
        """Return that accuracy and the language."""
        language, accuracy = groups.worst(right, more["languages"])
        return {"worst_language_accuracy": accuracy, "worst_language": language}

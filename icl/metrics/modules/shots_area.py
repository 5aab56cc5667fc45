"""For `evaluate.load`; see `icl.metrics.curves`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icl.metrics import curves
from icl.metrics import module as base


class ShotsArea(base.ColumnMetric):
    """Mean height of the accuracy-shots curve. Option: `scale`, ``log`` or ``linear``."""

    columns = ("shots",)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> base.Figures:
        """Return the area and the curve."""
        curve = curves.by_shots(right, more["shots"])
        area = curves.area_under_shots(curve, more.get("scale", "log"))
        return {"shots_area": area, "accuracy_by_shots": curve}

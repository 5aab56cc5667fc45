"""For `evaluate.load`; see `icl.metrics.groups`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icl.metrics import groups
from icl.metrics import module as base


class CrossLingualGap(base.ColumnMetric):
    """Accuracy within languages less that across them, over query languages judged both ways."""

    columns = ("languages", "support_languages")

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> base.Figures:
        """Return the gap."""
        gap = groups.cross_lingual_gap(right, more["support_languages"], more["languages"])
        return {"cross_lingual_gap": gap}

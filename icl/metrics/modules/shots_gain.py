"""For `evaluate.load`; see `icl.metrics.curves`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icl.metrics import curves
from icl.metrics import module as base


class ShotsGain(base.ColumnMetric):
    """Gain in accuracy over zero-shot for each added example, by the number in `shots`.

    Option: `zero_shot`, the accuracy without examples; by default that at 0 in `shots`.
    """

    columns = ("shots",)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> base.Figures:
        """Return the gains; raises `ValueError` where nothing is known without examples."""
        curve = curves.by_shots(right, more["shots"])
        zero = more.get("zero_shot", curve.get(0))
        if zero is None:
            raise ValueError("no query has 0 shots; give `zero_shot`, the accuracy without any")
        return {"shots_gain": curves.gain_per_example(curve, float(zero))}

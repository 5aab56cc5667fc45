"""For `evaluate.load`; see `icl.metrics.reliability`."""

from dataclasses import asdict
from typing import Any

from icl.metrics import module as base
from icl.metrics import reliability as calibration


class Ece(base.RowMetric):
    """Expected calibration error, with the bins of a reliability plot. Option: `bins`."""

    def score(self, predictions: base.Many, references: base.Many, **more: Any) -> base.Figures:
        """Return ``ece`` and ``reliability``, a list of bins."""
        bins = int(more.get("bins", calibration.BINS))
        found = calibration.reliability_of(predictions, references, bins)
        return {"ece": calibration.ece(found), "reliability": [asdict(b) for b in found]}

"""Majority: the most frequent support label, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from icl.learners.base import Predictor
from icl.learners.baselines.without_model import WithoutModel
from icl.learners.support import Constant
from icl.tasks.task import Example, Labels


class Majority(WithoutModel):
    """Predict label frequencies of the support set, smoothed by one count a label (Laplace).

    On balanced support sets all labels tie, and the runner breaks ties at random: chance.
    """

    method = "majority"
    floor = True  # see `icl.evaluation.alarms`

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Count the support labels."""
        counts = Counter(example.label for example in support)
        frequencies = torch.tensor([float(counts[name] + 1) for name in labels.names])
        return Constant((frequencies / frequencies.sum()).log())

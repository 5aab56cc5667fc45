"""Majority: the most frequent support label, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from icl.learners.base import Learner, Params, Predictor
from icl.learners.support import Constant
from icl.tasks.task import Example, Labels

if TYPE_CHECKING:
    from icl.models.base import Ability


class Majority(Learner):
    """Predict label frequencies of the support set, smoothed by one count a label (Laplace).

    On balanced support sets all labels tie, and the runner breaks ties at random: chance.
    """

    method = "majority"

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """No model."""
        return frozenset()

    def __init__(self, backbone: object, params: Params) -> None:
        """Take the common arguments; neither is used."""

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Count the support labels."""
        counts = Counter(example.label for example in support)
        frequencies = torch.tensor([float(counts[name] + 1) for name in labels.names])
        return Constant((frequencies / frequencies.sum()).log())

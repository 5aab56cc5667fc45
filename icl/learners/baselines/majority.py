"""Majority: the most frequent support label, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from icl.learners.base import Learner, Params, Predictor
from icl.learners.support import Constant
from icl.tasks.task import Example, Labels
from icl.tools.amounts import Work

if TYPE_CHECKING:
    from icl.episodes import Episode
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone


class Majority(Learner):
    """Predict label frequencies of the support set, smoothed by one count a label (Laplace).

    On balanced support sets all labels tie, and the runner breaks ties at random: chance.
    """

    method: ClassVar[str] = "majority"

    @classmethod
    def needs_weights(cls, params: Params) -> bool:
        """It uses no model."""
        return False

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: Any) -> Work:
        """No model sees a token."""
        return Work()

    def __init__(self, backbone: Backbone, params: Params) -> None:
        """Take the common arguments; neither is used."""

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Count the support labels."""
        counts = Counter(example.label for example in support)
        frequencies = torch.tensor([float(counts[name] + 1) for name in labels.names])
        return Constant((frequencies / frequencies.sum()).log())

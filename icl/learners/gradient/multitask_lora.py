"""Plain training of LoRA factors on all tasks: the control of every LoRA meta-learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from icl.episodes.episode import Episode
from icl.learners.gradient.algorithms import Joint
from icl.learners.gradient.base import Support
from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.tools.amounts import Work

if TYPE_CHECKING:
    from icl.models.base import Ability


class LoraMultiTask(LoraMetaLearner):
    """Train the adapter on all texts of the same meta-batches, then adapt as the meta-learners do.

    Training is not told that there are episodes: support and queries alike are examples whose
    label words are learnt, without an inner loop. On a new task the same steps are taken on the
    support set as from a meta-learned start. What a meta-learner has beyond this learner, with the
    same `training`, it has from learning to learn. (Chen et al. 2019, arXiv 1904.04232, compare
    meta-learners with plain training then fine-tuning.) An encoder has no label words to train,
    see the method ``multitask`` with ``tune: lora``.
    """

    method = "multitask-lora"
    plain = True
    Algorithm = Joint

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """Scores through LoRA factors: it trains label words."""
        return frozenset({"score", "adapt"})

    @classmethod
    def outer_work(cls, support: float, query: float, params: Any) -> Work:
        """Nothing is adapted, so that there is nothing to look at either."""
        return Joint().work(support, query)

    def sides(self, episodes: Sequence[Episode]) -> tuple[list[Support], list[Support]]:
        """Return no support: all examples are what the loss is taken on."""
        return (
            [((), e.labels) for e in episodes],
            [((*e.support, *e.query), e.labels) for e in episodes],
        )

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean loss over all examples of an episode, mean over episodes; no metrics."""
        return super().meta_loss(episodes)[0], {}

"""LoRA fine-tuning of each episode from a fresh adapter: the plain gradient baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from icl.learners.base import Choices, Learner, Predictor
from icl.learners.gradient.algorithms.problem import spread
from icl.learners.gradient.base import AdaptedPredictor, LoraParams, Support, WordLoss
from icl.learners.gradient.passes import passes
from icl.models.adapters.lora import Adapter
from icl.tasks.task import Example, Labels

if TYPE_CHECKING:
    from icl.episodes.episode import Episode
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability
    from icl.tools.amounts import Work


class LoraFineTuningParams(LoraParams):
    """The adapter, and how it is trained on each support set."""

    steps: int = Field(default=10, ge=0)
    learning_rate: float = Field(default=2e-3, gt=0)


class LoraFineTuning(Learner):
    """Minimise the support set's cross-entropy by full-batch Adam over LoRA factors.

    Every episode starts from the same adapter, drawn by `seed` or given as `start`, and nothing of
    one episode reaches another. Without support the start itself predicts, which from a drawn one
    is zero-shot prompting.
    """

    method = "lora"
    Params = LoraFineTuningParams
    search: ClassVar[Choices] = {
        "learning_rate": (5e-4, 1e-3, 2e-3, 5e-3),
        "steps": (5, 10, 20),
        "rank": (4, 8, 16),
    }

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """Scores through LoRA factors."""
        return frozenset({"score", "adapt"})

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: LoraFineTuningParams) -> Work:
        """Take each step on the support set, then answer."""
        return passes(counter, episode, params).adapted(params.steps)

    def __init__(self, backbone: Backbone, params: LoraFineTuningParams) -> None:
        """Draw the start that every episode shares."""
        self._backbone = backbone
        self._params = params
        self._scale = params.spec(backbone).scale
        self._start = params.begin(backbone)

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Fine-tune on one support set."""
        return self.adapt_batch([(support, labels)])[0]

    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Fine-tune on several support sets at once; Adam is elementwise, so tasks stay apart."""
        factors = {
            name: value.clone().requires_grad_()
            for name, value in spread(self._start, len(tasks)).items()
        }
        if all(support for support, _ in tasks):
            loss = WordLoss(self._backbone, tasks, factors, self._scale)
            optimiser = torch.optim.Adam(factors.values(), lr=self._params.learning_rate)
            for _ in range(self._params.steps):
                optimiser.zero_grad()
                for part in loss.parts:
                    torch.autograd.backward(part(factors).sum())
                optimiser.step()
        found: list[Predictor] = []
        for i, (_, labels) in enumerate(tasks):
            own = {name: value[i].detach().clone() for name, value in factors.items()}
            found.append(AdaptedPredictor(self._backbone, labels, Adapter(own, self._scale)))
        return found

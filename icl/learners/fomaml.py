"""First-order MAML over LoRA factors (Finn et al. 2017, arXiv 1703.03400, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.episodes.episode import Episode
from icl.learners.base import MetaLearner, Predictor
from icl.learners.gradient import (
    Factors,
    LoraParams,
    Support,
    TaskBatch,
    compile_batch,
    predictors,
    spread,
    task_losses,
)
from icl.models.lora import Adapter, init_lora
from icl.tasks.task import Example, Labels

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class FOMAMLParams(LoraParams):
    """The adapter, and the inner loop: `inner_steps` of gradient descent at `inner_rate`."""

    inner_steps: int = Field(default=3, ge=0)
    inner_rate: float = Field(default=0.03, gt=0)


class FOMAML(MetaLearner):
    """Learn a LoRA start from which a few gradient steps adapt.

    Inner loop: ``theta_i = theta - rate * grad L_support(theta)``, `inner_steps` times. The
    meta-gradient is ``mean_i grad L_query`` taken at ``theta_i`` and applied to ``theta``: MAML
    without the derivative of the inner steps.
    """

    method: ClassVar[str] = "fomaml"
    predicts_words: ClassVar[bool] = True
    Params = FOMAMLParams

    def __init__(self, backbone: Backbone, params: FOMAMLParams) -> None:
        """Draw the start; `trainable_parameters` are its LoRA factors."""
        self._backbone = backbone
        self._params = params
        spec = params.spec(backbone)
        self._scale = spec.scale
        self._start = {
            name: value.requires_grad_()
            for name, value in init_lora(backbone, spec, params.seed).items()
        }

    def trainable_parameters(self) -> Mapping[str, Tensor]:
        """Return the LoRA factors of the start."""
        return self._start

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean query loss after adaptation; its gradient is the meta-gradient.

        Metrics: the mean support loss before adaptation and query losses before and after.
        """
        support = compile_batch(
            self._backbone, [(e.support, e.labels) for e in episodes], self._start
        )
        query = compile_batch(self._backbone, [(e.query, e.labels) for e in episodes], self._start)
        start = spread(self._start, len(episodes))
        # the steps are constants to the graph: d theta_i / d theta is the identity
        adapted = {
            name: start[name] + (moved - start[name]).detach()
            for name, moved in self._descend(support, start).items()
        }
        losses = task_losses(self._backbone, query, Adapter(adapted, self._scale))
        return losses.mean(), {"query_loss": float(losses.mean().detach())}

    def _descend(self, batch: TaskBatch, start: Factors) -> dict[str, Tensor]:
        """Take the inner steps from `start`; each task follows its own support loss."""
        factors = {name: value.detach() for name, value in start.items()}
        for _ in range(self._params.inner_steps):
            leaves = {name: value.requires_grad_() for name, value in factors.items()}
            losses = task_losses(self._backbone, batch, Adapter(leaves, self._scale))
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
            factors = {
                name: (value - self._params.inner_rate * gradient).detach()
                for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            }
        return factors

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Take the inner steps on one support set."""
        return self.adapt_batch([(support, labels)])[0]

    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Take the inner steps on several support sets at once; without support, none."""
        factors: Factors = spread(self._start, len(tasks))
        if all(support for support, _ in tasks):
            factors = self._descend(compile_batch(self._backbone, tasks, self._start), factors)
        return predictors(self._backbone, tasks, factors, self._scale)

"""Prototypical networks on frozen embeddings (Snell et al. 2017, arXiv 1703.05175, eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import LOG_ZERO, Learner, Predictor
from icl.learners.features import FeatureParams, Features, targets
from icl.learners.majority import uniform
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class PrototypeParams(FeatureParams):
    """Embedding parameters, and the temperature that divides squared distances."""

    temperature: float = Field(default=0.1, gt=0)


class _Nearest(Predictor):
    def __init__(
        self, features: Features, labels: Labels, prototypes: Tensor, temperature: float
    ) -> None:
        self._features = features
        self._labels = labels
        self._prototypes = prototypes
        self._temperature = temperature

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        queries = self._features(texts, self._labels)
        return prototype_log_probs(queries, self._prototypes, self._temperature)


def prototype_log_probs(queries: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Return ``log softmax(-||f(x) - c_k||^2 / temperature)``.

    Args:
        queries: shape (queries, width).
        prototypes: class means; a row of NaN is a class without support, which gets no mass.
            Shape (labels, width).

    Returns:
        Shape (queries, labels).
    """
    # differences, not the expanded square: exact for near vectors, and one row alone equals a batch
    squared = (queries[:, None, :] - prototypes[None]).square().sum(-1)
    scores = (-squared / temperature).masked_fill(squared.isnan(), LOG_ZERO)
    return scores.log_softmax(1).clamp_min(LOG_ZERO)


class Prototypes(Learner):
    """Label a query by the nearest class mean in squared Euclidean distance."""

    method: ClassVar[str] = "prototypes"
    Params = PrototypeParams

    def __init__(self, backbone: Backbone, params: PrototypeParams) -> None:
        """Embed with this backbone."""
        self._features = Features(backbone, params)
        self._temperature = params.temperature

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Average each class's support embeddings; without support, every label is alike."""
        if not support:
            return uniform(labels)
        vectors = self._features([example.fields for example in support], labels)
        wanted = targets(support, labels)
        means = torch.stack([vectors[wanted == k].mean(0) for k in range(len(labels))])
        return _Nearest(self._features, labels, means, self._temperature)

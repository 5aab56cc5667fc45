"""Prototypes on frozen embeddings: a query belongs to the class with the nearest mean."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from icl.learners.base import Choices
from icl.learners.embedding.base import EmbeddingLearner
from icl.learners.embedding.features import FEATURES, FeatureParams
from icl.learners.embedding.heads import metric
from icl.learners.embedding.heads.fitted import Fitted


class PrototypeParams(FeatureParams):
    """How texts are embedded and compared.

    Attributes:
        metric: ``euclidean`` (squared), ``cosine``, or ``mahalanobis`` under each class's shrunk
            covariance; see `icl.learners.embedding.heads.metric`.
        temperature: divides the scores.
        ridge: of the shrunk covariance, as a share of the mean variance.
    """

    metric: Literal["euclidean", "cosine", "mahalanobis"] = "euclidean"
    temperature: float = Field(default=0.1, gt=0)
    ridge: float = Field(default=1.0, gt=0)


class Prototypes(EmbeddingLearner):
    """Label a query by the nearest class mean (Snell et al. 2017, arXiv 1703.05175)."""

    method = "prototypes"
    Params = PrototypeParams
    search: ClassVar[Choices] = {**FEATURES, "metric": ("euclidean", "cosine", "mahalanobis")}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Average each class's vectors."""
        temperature = self._params.temperature
        if self._params.metric == "mahalanobis":
            return metric.mahalanobis(support, wanted, ways, temperature, self._params.ridge)
        compare = metric.cosine if self._params.metric == "cosine" else metric.euclidean
        return compare(support, wanted, ways, temperature)


class NearestCentroidParams(FeatureParams):
    """As for prototypes, but vectors keep their length unless the user says otherwise."""

    normalise: bool = False


class NearestCentroid(EmbeddingLearner):
    """Rocchio's nearest centroid in plain Euclidean distance, as scikit-learn's."""

    method = "nearest-centroid"
    Params = NearestCentroidParams
    search: ClassVar[Choices] = {**FEATURES, "normalise": (False, True)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Average each class's vectors; distances are in units of the support's mean variance."""
        around = support - support.mean(1, keepdim=True)
        spread = around.square().sum(-1).mean(1).clamp_min(1e-12)
        return metric.euclidean(support, wanted, ways, spread)

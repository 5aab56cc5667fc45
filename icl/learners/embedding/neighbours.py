"""Learners that compare a query with each support example: matching networks and k neighbours."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from icl.learners.base import Choices
from icl.learners.embedding.base import EmbeddingLearner
from icl.learners.embedding.features import FEATURES, FeatureParams
from icl.learners.embedding.heads import metric
from icl.learners.embedding.heads.fitted import Fitted


class MatchingParams(FeatureParams):
    """How texts are embedded, and the temperature that divides cosines (the paper's is 1)."""

    temperature: float = Field(default=0.1, gt=0)


class Matching(EmbeddingLearner):
    """Attend over the support set and add up its labels (Vinyals et al. 2016, arXiv 1606.04080).

    On frozen embeddings, without full context embeddings; `meta-matching` learns both.
    """

    method = "matching"
    Params = MatchingParams
    search: ClassVar[Choices] = {**FEATURES, "temperature": (0.03, 0.1, 0.3, 1.0)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Keep the support set."""
        return metric.matching(support, wanted, ways, self._params.temperature)


class NeighbourParams(MatchingParams):
    """As for matching networks; only the `k` most similar examples vote."""

    k: int = Field(default=5, ge=1)


class Neighbours(EmbeddingLearner):
    """k nearest neighbours by cosine, each vote weighing ``exp(cos / temperature)``."""

    method = "knn"
    Params = NeighbourParams
    search: ClassVar[Choices] = {**FEATURES, "k": (1, 3, 5, 10), "temperature": (0.03, 0.1, 0.3)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Keep the support set."""
        return metric.knn(support, wanted, ways, self._params.k, self._params.temperature)

"""Transductive learners: prototypes that look at all queries at once. Marked in every table."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from icl.learners.base import Choices
from icl.learners.embedding.base import EmbeddingLearner
from icl.learners.embedding.features import FEATURES, FeatureParams
from icl.learners.embedding.heads import transductive
from icl.learners.embedding.heads.fitted import Fitted


class SoftKMeansParams(FeatureParams):
    """How texts are embedded; what divides squared distances; rounds of refinement."""

    temperature: float = Field(default=0.1, gt=0)
    steps: int = Field(default=3, ge=1)


class SoftKMeans(EmbeddingLearner):
    """Prototypes refined by the queries' soft assignments (Ren et al. 2018, arXiv 1803.00676)."""

    method = "soft-k-means"
    Params = SoftKMeansParams
    transductive = True
    search: ClassVar[Choices] = {**FEATURES, "temperature": (0.03, 0.1, 0.3), "steps": (1, 3, 10)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Average each class's vectors; refinement waits for the queries."""
        return transductive.soft_k_means(
            support, wanted, ways, self._params.temperature, self._params.steps
        )


class LaplacianParams(FeatureParams):
    """How texts are embedded; what divides squared distances; the pull of a query's neighbours."""

    temperature: float = Field(default=0.1, gt=0)
    weight: float = Field(default=1.0, ge=0)
    neighbours: int = Field(default=3, ge=1)


class Laplacian(EmbeddingLearner):
    """Prototypes whose labels agree among neighbouring queries (LaplacianShot, Ziko 2020)."""

    method = "laplacian"
    Params = LaplacianParams
    transductive = True
    search: ClassVar[Choices] = {**FEATURES, "weight": (0.3, 1.0, 3.0), "neighbours": (1, 3, 5)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Average each class's vectors; smoothing waits for the queries."""
        p = self._params
        return transductive.laplacian(support, wanted, ways, p.temperature, p.weight, p.neighbours)

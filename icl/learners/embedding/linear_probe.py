"""Linear classifiers on frozen embeddings: logistic regression, ridge and a support vector machine.

Logistic regression and ridge are exact solvers of our own (`icl.learners.embedding.heads.linear`),
which agree with scikit-learn's and fit many tasks at once.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import Choices
from icl.learners.embedding.base import EmbeddingLearner
from icl.learners.embedding.features import FEATURES, FeatureParams
from icl.learners.embedding.heads import linear
from icl.learners.embedding.heads.fitted import Fitted


class LinearProbeParams(FeatureParams):
    """Embedding parameters, and the inverse strength of the L2 penalty, as scikit-learn's C."""

    C: float = Field(default=10.0, gt=0)


class LinearProbe(EmbeddingLearner):
    """Fit multinomial logistic regression on the support embeddings."""

    method = "linear-probe"
    Params = LinearProbeParams
    search: ClassVar[Choices] = {**FEATURES, "C": (0.1, 1.0, 10.0, 100.0)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Minimise the penalised log-loss."""
        return linear.logistic(support, wanted, ways, self._params.C)


class LogisticParams(FeatureParams):
    """Embedding parameters, and the strengths C that cross-validation chooses from."""

    strengths: tuple[float, ...] = Field(default=(0.1, 1.0, 10.0, 100.0), min_length=1)


class Logistic(EmbeddingLearner):
    """Logistic regression whose strength is chosen by stratified folds of the support set.

    Where some label has a single example there is nothing to hold out, and the middle one of the
    strengths is taken.
    """

    method = "logistic"
    Params = LogisticParams
    search: ClassVar[Choices] = FEATURES  # the strength it chooses itself

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Choose each task's strength, then fit all of them."""
        chosen = [
            linear.cross_validated_strength(vectors, columns, ways, self._params.strengths)
            for vectors, columns in zip(support, wanted, strict=True)
        ]
        return linear.logistic(support, wanted, ways, torch.tensor(chosen, dtype=torch.float64))


class RidgeParams(FeatureParams):
    """Embedding parameters; the penalties to choose from; what divides predictions (in -1 to 1)."""

    strengths: tuple[float, ...] = Field(default=(0.01, 0.1, 1.0, 10.0, 100.0), min_length=1)
    temperature: float = Field(default=0.2, gt=0)


class Ridge(EmbeddingLearner):
    """Ridge regression onto targets of 1 and -1, its penalty by leave-one-out in closed form."""

    method = "ridge"
    Params = RidgeParams
    search: ClassVar[Choices] = FEATURES  # the penalty it chooses itself

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Solve for the weights."""
        return linear.ridge(support, wanted, ways, self._params.strengths, self._params.temperature)


class SVM(EmbeddingLearner):
    """A linear support vector machine for each label against the rest (scikit-learn's SVC)."""

    method = "svm"
    Params = LinearProbeParams
    search: ClassVar[Choices] = {**FEATURES, "C": (0.1, 1.0, 10.0, 100.0)}

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Fit one machine a task and label; scores are signed distances in margins."""
        from sklearn.svm import SVC

        weights, biases = [], []
        for vectors, columns in zip(support.double().numpy(), wanted.numpy(), strict=True):
            machines = [
                SVC(kernel="linear", C=self._params.C, tol=1e-8).fit(vectors, columns == way)
                for way in range(ways)
            ]
            weights.append(torch.stack([torch.tensor(m.coef_[0]) for m in machines], 1))
            biases.append(torch.stack([torch.tensor(m.intercept_[0]) for m in machines]))
        return linear.fitted(torch.stack(weights), torch.stack(biases))

"""Linear probe: scikit-learn's logistic regression on frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

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


class LinearProbeParams(FeatureParams):
    """Embedding parameters, and the inverse strength of the L2 penalty, as scikit-learn's C."""

    C: float = Field(default=10.0, gt=0)


class _Probe(Predictor):
    def __init__(self, features: Features, labels: Labels, classifier: Any) -> None:
        self._features = features
        self._labels = labels
        self._classifier = classifier
        self.trained_parameters = classifier.coef_.size + classifier.intercept_.size

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        queries = self._features(texts, self._labels).double().numpy()
        known = torch.from_numpy(self._classifier.predict_log_proba(queries)).float()
        # a class without support gets no mass
        full = torch.full((len(texts), len(self._labels)), LOG_ZERO)
        full[:, torch.from_numpy(self._classifier.classes_)] = known
        return full.clamp_min(LOG_ZERO)


class LinearProbe(Learner):
    """Fit multinomial logistic regression on the support embeddings."""

    method: ClassVar[str] = "linear-probe"
    Params = LinearProbeParams

    def __init__(self, backbone: Backbone, params: LinearProbeParams) -> None:
        """Embed with this backbone."""
        self._features = Features(backbone, params)
        self._strength = params.C

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Fit the probe; without at least two labels in support, every label is alike."""
        from sklearn.linear_model import LogisticRegression

        wanted = targets(support, labels)
        if len(set(wanted.tolist())) < 2:
            return uniform(labels)
        vectors = self._features([example.fields for example in support], labels)
        # scikit-learn's lbfgs is deterministic; float64 makes it independent of thread counts
        classifier = LogisticRegression(C=self._strength, max_iter=1000, tol=1e-6)
        classifier.fit(vectors.double().numpy(), wanted.numpy())
        return _Probe(self._features, labels, classifier)

"""A meta-trained head without icl: it stands beside an exported model as ``head.py``.

It needs torch (and scikit-learn for logistic regression), reads ``head.json`` and
``head.safetensors`` beside the model, and works on the vectors that
``SentenceTransformer(folder).encode`` gives::

    head = Head(folder).fit(model.encode(texts), labels)
    head.predict(model.encode(others))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# what each rule keeps of the trained network
TENSORS: dict[str, tuple[str, ...]] = {
    "nearest": ("log_temperature",),
    "attention": ("log_temperature",),
    "comparison": ("relation.0.weight", "relation.0.bias", "relation.2.weight", "relation.2.bias"),
    "regression": (),
}


class Head:
    """Tells the labels of a task apart, once it has seen a few of its examples.

    Attributes:
        labels: of the task, in the order of the columns of `log_probs`.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read what was trained.

        Args:
            folder: holds ``head.json`` and ``head.safetensors``.
        """
        from safetensors.torch import load_file

        said = json.loads((Path(folder) / "head.json").read_text("utf-8"))
        self._rule: str = said["rule"]
        self._said: dict[str, Any] = said
        path = Path(folder) / "head.safetensors"
        self._trained: dict[str, Tensor] = load_file(path) if path.is_file() else {}
        self.labels: list[str] = []
        self._scores: Callable[[Tensor], Tensor] | None = None

    def fit(self, vectors: Any, labels: Sequence[str]) -> Head:
        """Learn a task from its examples.

        Args:
            vectors: of the examples' texts, shape (examples, width), an array or a tensor.
            labels: of the examples; at least two different ones.

        Returns:
            The same head, which has forgotten any task before.

        Raises:
            ValueError: there are not as many labels as vectors, or fewer than two different ones.
        """
        support = torch.as_tensor(vectors).float()
        self.labels = sorted(set(labels))
        if len(labels) != len(support) or len(self.labels) < 2:
            raise ValueError(f"{len(support)} vectors, and {len(labels)} labels of two or more")
        wanted = torch.tensor([self.labels.index(label) for label in labels])
        self._scores = getattr(self, f"_{self._rule}")(support, wanted)
        return self

    def log_probs(self, vectors: Any) -> Tensor:
        """Return each label's log-probability: (texts, width) -> (texts, labels), float32."""
        if self._scores is None:
            raise ValueError("the head has seen no examples; call `fit`")
        with torch.no_grad():
            return self._scores(torch.as_tensor(vectors).float()).log_softmax(1)

    def predict(self, vectors: Any) -> list[str]:
        """Return each text's most likely label."""
        return [self.labels[int(i)] for i in self.log_probs(vectors).argmax(1)]

    def _nearest(self, support: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """Prototypical networks: ``-||q - c_k||^2 / t``, or ``cos(q, c_k) / t``."""
        means, temperature = self._means(support, wanted), self._temperature()
        if self._said["metric"] == "cosine":
            return lambda queries: _cosines(queries, means) / temperature
        middle = means.mean(0)  # distances do not change, and lose no digits to what all share
        return lambda queries: (
            -torch.cdist(
                queries - middle, means - middle, compute_mode="donot_use_mm_for_euclid_dist"
            ).square()
            / temperature
        )

    def _attention(self, support: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """Matching networks: the softmax of ``cos(q, x_i) / t``, added up over a label's x_i."""
        temperature = self._temperature()
        absent = wanted[None] != torch.arange(len(self.labels))[:, None]  # (labels, examples)

        def scores(queries: Tensor) -> Tensor:
            weights = (_cosines(queries, support) / temperature)[:, None]
            return weights.masked_fill(absent[None], -torch.inf).logsumexp(-1)

        return scores

    def _comparison(self, support: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """Relation networks: a trained module compares each query with each label's mean."""
        size = support.shape[1] ** 0.5
        means = self._means(support, wanted) * size
        first, first_bias, second, second_bias = (self._trained[n] for n in TENSORS["comparison"])

        def scores(queries: Tensor) -> Tensor:
            q = (queries * size)[:, None].expand(-1, len(means), -1)
            c = means[None].expand_as(q)
            pair = [c, q, c * q, (c - q).abs()] if self._said["interactions"] else [c, q]
            hidden = (torch.cat(pair, -1) @ first.T + first_bias).relu()
            return (hidden @ second.T + second_bias)[..., 0]

        return scores

    def _regression(self, support: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """Logistic regression with an L2 penalty, made anew for each task."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self._said["C"], tol=1e-8, max_iter=10_000)
        model.fit(support.double().numpy(), wanted.numpy())

        def scores(queries: Tensor) -> Tensor:
            found = model.predict_log_proba(queries.double().numpy())
            return torch.from_numpy(found).float()

        return scores

    def _means(self, support: Tensor, wanted: Tensor) -> Tensor:
        return torch.stack([support[wanted == k].mean(0) for k in range(len(self.labels))])

    def _temperature(self) -> Tensor:
        return self._trained["log_temperature"].exp()


def _cosines(queries: Tensor, points: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize
    return unit(queries, dim=-1) @ unit(points, dim=-1).T

"""Multi-task training, then a new head for each task: the plain rival of meta-learning."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from icl.episodes.episode import Episode
from icl.learners.base import Choices
from icl.learners.embedding.episodic import EpisodicLearner, EpisodicParams, Net
from icl.learners.embedding.heads import linear
from icl.learners.embedding.heads.fitted import Fitted


class MultiTaskParams(EpisodicParams):
    """The representation, and the two heads.

    Attributes:
        scale: of the training head's cosines.
        buckets: rows of the training head; a label of a task takes one by the hash of its name.
        C: inverse strength of the L2 penalty of each new task's head.
    """

    scale: float = Field(default=10.0, gt=0)
    buckets: int = Field(default=4096, ge=2)
    C: float = Field(default=10.0, gt=0)


class _SharedNet(Net):
    def __init__(self, width: int, params: MultiTaskParams) -> None:
        super().__init__(width, params)
        self.classes = nn.Parameter(torch.zeros(params.buckets, width))
        self._scale, self._strength = params.scale, params.C

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        return linear.logistic(support, wanted, ways, self._strength)

    def cosines(self, vectors: Tensor, rows: Tensor) -> Tensor:
        unit = nn.functional.normalize
        return self._scale * unit(vectors, dim=-1) @ unit(self.classes[rows], dim=-1).T


class MultiTask(EpisodicLearner):
    """Train the representation to tell all training labels apart; fit logistic regression on it.

    Training ignores that its data come in episodes: every example, support or query, is classified
    among all labels of its task in the meta-batch by one shared cosine head ("Baseline++" of Chen
    et al. 2019, arXiv 1904.04232). For a new task that head is dropped and a new one is fitted to
    the support set. The head's labels of two names may share a row once in `buckets` squared.
    """

    method = "multitask"
    plain = True
    joins_episodes = True  # each example is told from all labels of the meta-batch
    Params = MultiTaskParams
    search: ClassVar[Choices] = {**EpisodicLearner.search, "scale": (5.0, 10.0, 20.0)}
    network = _SharedNet

    @classmethod
    def alone(cls, params: MultiTaskParams) -> str:
        """Logistic regression."""
        return "regression"

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean classification loss over all examples of the episodes."""
        net: Any = self._net
        known: dict[str, dict[str, int]] = {}
        for e in episodes:
            rows = known.setdefault(e.task, {})
            for name in e.labels.names:
                rows[name] = _bucket(e.task, name, len(net.classes))
        losses, hits = [], []
        for group, vectors in self._embedded(episodes):
            for e, own in zip(group, vectors, strict=True):
                names = sorted(known[e.task])
                scores = net.cosines(own, torch.tensor([known[e.task][name] for name in names]))
                wanted = torch.tensor([names.index(x.label) for x in (*e.support, *e.query)])
                losses.append(nn.functional.cross_entropy(scores, wanted))
                hits.append((scores.argmax(1) == wanted).float().mean())
        return torch.stack(losses).mean(), {"accuracy": float(torch.stack(hits).mean())}


def _bucket(task: str, label: str, buckets: int) -> int:
    digest = hashlib.sha256(f"{task}\0{label}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % buckets

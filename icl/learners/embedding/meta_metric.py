"""Metric learners trained by episodes: prototypical, matching and relation networks."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from icl.learners.base import Choices
from icl.learners.embedding.episodic import EpisodicLearner, EpisodicParams, Net
from icl.learners.embedding.heads import metric
from icl.learners.embedding.heads.fitted import Fitted, class_means, one_hot


class MetaPrototypeParams(EpisodicParams):
    """The representation, the metric, and the temperature that training starts from."""

    metric: Literal["euclidean", "cosine"] = "euclidean"
    temperature: float = Field(default=0.1, gt=0)


class _PrototypeNet(Net):
    def __init__(self, width: int, params: MetaPrototypeParams) -> None:
        super().__init__(width, params)
        self._head = metric.cosine if params.metric == "cosine" else metric.euclidean
        self.log_temperature = nn.Parameter(torch.tensor(math.log(params.temperature)))

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        return self._head(support, wanted, ways, self.log_temperature.exp())


class MetaPrototypes(EpisodicLearner):
    """Prototypical networks: representation and temperature trained on the query log-loss.

    Snell et al. 2017 (arXiv 1703.05175); best with more ways than at test (`training.ways`).
    """

    method = "meta-prototypes"
    Params = MetaPrototypeParams
    search: ClassVar[Choices] = {**EpisodicLearner.search, "temperature": (0.03, 0.1, 0.3)}
    network = _PrototypeNet

    @classmethod
    def alone(cls, params: MetaPrototypeParams) -> str:
        """The nearest prototype."""
        return "nearest"


class MetaMatchingParams(EpisodicParams):
    """The representation, the starting temperature, and full context embeddings.

    Attributes:
        full_context: embed each example in the light of the whole support set.
        reads: processing steps of a query's attention LSTM.
        context_weight: what the LSTMs' outputs are scaled by when they are added; the paper's is 1.
    """

    temperature: float = Field(default=0.1, gt=0)
    full_context: bool = False
    reads: int = Field(default=3, ge=1)
    context_weight: float = Field(default=0.1, gt=0)


class _MatchingNet(Net):
    def __init__(self, width: int, params: MetaMatchingParams) -> None:
        super().__init__(width, params)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(params.temperature)))
        self._reads, self._weight = params.reads, params.context_weight
        self.both_ways = self.reader = None
        if params.full_context:
            self.both_ways = nn.LSTM(width, width, batch_first=True, bidirectional=True)
            self.reader = nn.LSTMCell(2 * width, width)

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        members = one_hot(wanted, ways)
        temperature = metric.per_task(self.log_temperature.exp(), len(support))
        if self.both_ways is None:
            return Fitted(metric.attend_to_labels, (support, members, temperature))
        forward, backward = self.both_ways(support)[0].chunk(2, -1)
        context = support + self._weight * (forward + backward)
        return Fitted(self._read_and_attend, (context, members, temperature))

    def _read_and_attend(
        self, queries: Tensor, context: Tensor, members: Tensor, temperature: Tensor
    ) -> Tensor:
        """Embed queries by attention LSTM (eq. 3 to 6 of the paper's appendix), then attend."""
        assert self.reader is not None
        flat = queries.flatten(0, 1)
        hidden = state = torch.zeros_like(flat)
        found = torch.zeros_like(flat)
        for _ in range(self._reads):
            step, state = self.reader(torch.cat([flat, found], -1), (hidden, state))
            hidden = self._weight * step + flat
            shares = (hidden.view_as(queries) @ context.transpose(1, 2)).softmax(-1)
            found = (shares @ context).flatten(0, 1)
        return metric.attend_to_labels(hidden.view_as(queries), context, members, temperature)


class MetaMatching(EpisodicLearner):
    """Matching networks (Vinyals et al. 2016, arXiv 1606.04080), with or without full context.

    With it, a support vector becomes ``x + w (h_forward + h_backward)`` of a bidirectional LSTM
    over the support set, and a query reads that set `reads` times through an attention LSTM.
    """

    method = "meta-matching"
    Params = MetaMatchingParams
    search: ClassVar[Choices] = {**EpisodicLearner.search, "temperature": (0.03, 0.1, 0.3)}
    network = _MatchingNet

    @classmethod
    def alone(cls, params: MetaMatchingParams) -> str:
        """Attention to the examples, unless LSTMs read them first."""
        return "" if params.full_context else "attention"


class RelationParams(EpisodicParams):
    """The representation, and the relation module.

    Attributes:
        hidden: its hidden units.
        interactions: also show it ``c * q`` and ``|c - q|`` beside the paper's ``[c, q]``, which
            pooled vectors, unlike the paper's feature maps, are hard to compare by.
    """

    hidden: int = Field(default=64, ge=1)
    interactions: bool = True


class _RelationNet(Net):
    def __init__(self, width: int, params: RelationParams) -> None:
        super().__init__(width, params)
        self._interactions = params.interactions
        inputs = (4 if params.interactions else 2) * width
        self.relation = nn.Sequential(
            nn.Linear(inputs, params.hidden), nn.ReLU(), nn.Linear(params.hidden, 1)
        )

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        # unit length times sqrt(width): inputs of a usual size, and any number of shots alike
        return Fitted(self._relate, (class_means(support, wanted, ways),))

    def _relate(self, queries: Tensor, means: Tensor) -> Tensor:
        scale = self.width**0.5
        q = queries[:, :, None].expand(-1, -1, means.shape[1], -1) * scale
        c = means[:, None].expand_as(q) * scale
        pair = [c, q, c * q, (c - q).abs()] if self._interactions else [c, q]
        found: Tensor = self.relation(torch.cat(pair, -1))[..., 0]
        return found

    def loss(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared error of the relation scores against 0 and 1 (eq. 2 of the paper)."""
        return (scores.sigmoid() - one_hot(wanted, scores.shape[-1])).square().mean((1, 2))


class Relation(EpisodicLearner):
    """Relation networks: a learned comparison ``g([c_k, q])`` in 0 to 1 (Sung et al. 2018).

    arXiv 1711.06025. The paper sums a class's shots; here they are averaged, so that a module
    trained with five shots can be used with one.
    """

    method = "relation"
    Params = RelationParams
    search: ClassVar[Choices] = {**EpisodicLearner.search, "hidden": (32, 64, 128)}
    network = _RelationNet

    @classmethod
    def alone(cls, params: RelationParams) -> str:
        """The trained comparison."""
        return "comparison"

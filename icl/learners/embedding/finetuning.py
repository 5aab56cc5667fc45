"""Fine-tuning each task from scratch, with early stopping that never looks at a query.

A linear head on embeddings is trained by Adam on the support set's cross-entropy, alone
(`head-finetuning`) or together with LoRA factors of the model that embeds (`lora-head`). The number
of steps is found on held-out support: one fold of each class is left out, and the step with the
least held-out loss is kept; then everything is trained anew on the whole support set for as many
steps. At least one step is taken: on few and hard examples a head of zeros often has the least
held-out loss, and it labels by chance. Where some class has a single example nothing can be held
out, and training stops when the support loss is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.adapter_params import AdapterParams
from icl.learners.base import Choices, Learner, Params, Predictor
from icl.learners.embedding.base import EmbeddingLearner, HeadPredictor
from icl.learners.embedding.episodic import embed
from icl.learners.embedding.features import FEATURES, FeatureParams, Features
from icl.learners.embedding.heads import linear
from icl.learners.embedding.heads.fitted import Fitted
from icl.learners.support import in_order, places, present_columns, uniform
from icl.models.adapters.lora import Adapter
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work, forward, kept, trained

if TYPE_CHECKING:
    from icl.episodes.episode import Episode
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability

Parameters = Mapping[str, Tensor]
Forward = Callable[[Parameters, list[int]], Tensor]  # parameters, examples -> logits
_SMALL_LOSS = 0.01


class StoppingParams(Params):
    """When to stop training on a support set.

    Attributes:
        steps: at most so many.
        learning_rate: of Adam.
        patience: stop the search after so many steps without a lower held-out loss.
    """

    steps: int = Field(default=200, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    patience: int = Field(default=20, ge=1)


def train(
    start: Parameters, forward: Forward, wanted: Tensor, ways: int, params: StoppingParams
) -> tuple[dict[str, Tensor], int]:
    """Train copies of some parameters on a support set, with early stopping within it.

    Args:
        start: what training starts from, by name; it stays as it is.
        forward: computes logits, shape (examples, ways), with a graph to the parameters.
        wanted: columns, shape (n,).
        ways: the number of labels.
        params: when to stop.

    Returns:
        The trained parameters, and for how many steps they were trained.
    """
    steps, everything = params.steps, list(range(len(wanted)))
    dealt = linear.folds(wanted, ways)
    if int(dealt.max()) > 0:
        kept = (dealt != 0).nonzero()[:, 0].tolist()
        held = (dealt == 0).nonzero()[:, 0].tolist()
        _, steps = _descend(start, forward, wanted, kept, held, steps, params)
    return _descend(start, forward, wanted, everything, None, steps, params)


def _descend(
    start: Parameters,
    forward: Forward,
    wanted: Tensor,
    kept: list[int],
    held: list[int] | None,
    steps: int,
    params: StoppingParams,
) -> tuple[dict[str, Tensor], int]:
    """Take full-batch steps; return where they end and the best number of them, at least one."""
    own = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.Adam(own.values(), lr=params.learning_rate)
    least, best = torch.inf, 1
    for step in range(steps + 1):
        if held is not None and step:
            with torch.no_grad():
                loss = float(_loss(forward, own, wanted, held))
            if loss < least:
                least, best = loss, step
            if step - best >= params.patience:
                break
        if step == steps:
            break
        optimiser.zero_grad()
        support_loss = _loss(forward, own, wanted, kept)
        if held is None and float(support_loss.detach()) < _SMALL_LOSS:
            steps = step
            break
        torch.autograd.backward(support_loss)
        optimiser.step()
    return {k: v.detach() for k, v in own.items()}, best if held is not None else steps


def _loss(forward: Forward, own: Parameters, wanted: Tensor, rows: list[int]) -> Tensor:
    return torch.nn.functional.cross_entropy(forward(own, rows), wanted[rows])


class HeadFineTuningParams(StoppingParams, FeatureParams):
    """How texts are embedded, and how the head is trained."""


class HeadFineTuning(EmbeddingLearner):
    """Train a linear head on frozen embeddings by gradient descent."""

    method = "head-finetuning"
    Params = HeadFineTuningParams
    search: ClassVar[Choices] = {
        **FEATURES,
        "learning_rate": (0.01, 0.05, 0.2),
        "steps": (100, 200, 400),
    }

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Train each task's head."""
        start = {"weight": torch.zeros(support.shape[2], ways), "bias": torch.zeros(ways)}
        weights, biases = [], []
        for vectors, columns in zip(support, wanted, strict=True):

            def forward(own: Parameters, rows: list[int], vectors: Tensor = vectors) -> Tensor:
                return vectors[rows] @ own["weight"] + own["bias"]

            found, _ = train(start, forward, columns, ways, self._params)
            weights.append(found["weight"])
            biases.append(found["bias"])
        return linear.fitted(torch.stack(weights), torch.stack(biases))


class LoraHeadParams(StoppingParams, AdapterParams, FeatureParams):
    """How texts are embedded, the adapter, and how both are trained.

    Attributes:
        head_scale: the head's logits are multiplied by it, so that it learns faster than the model.
    """

    head_scale: float = Field(default=10.0, gt=0)
    steps: int = Field(default=30, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    patience: int = Field(default=8, ge=1)


class LoraHead(Learner):
    """Train LoRA factors and a linear head on the pooled embedding: usual encoder fine-tuning."""

    method = "lora-head"
    Params = LoraHeadParams
    search: ClassVar[Choices] = {
        "learning_rate": (5e-4, 1e-3, 2e-3, 5e-3),
        "steps": (15, 30, 60),
        "rank": (4, 8, 16),
    }

    @classmethod
    def needs(cls, params: LoraHeadParams) -> frozenset[Ability]:
        """Vectors through LoRA factors."""
        return params.needs | {"adapt"}

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: LoraHeadParams) -> Work:
        """Train for all steps, twice over where a fold can be held out, then answer."""
        support, query = (
            counter.texts(params.uncut(side, episode.labels, counter.encoder))
            * counter.depth(params.layer)
            for side in (episode.support, episode.query)
        )
        fits = 1 if len(episode.support) <= len(episode.labels) else 2
        top = counter.adapted(params.top_layers)
        fitted = trained(support * top) * (fits * params.steps) + kept(support * (1 - top))
        return fitted + forward(query)

    def __init__(self, backbone: Backbone, params: LoraHeadParams) -> None:
        """Draw the adapter that every task starts from."""
        self._features = Features(backbone, params)
        self._params = params
        self._start, self._scale = params.begin(backbone), params.spec(backbone).scale

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Train on one support set; with fewer than two labels in it, every label is alike."""
        columns = present_columns(support, labels)
        if len(columns) < 2:
            return uniform(labels)
        p, ways = self._params, len(columns)
        ordered = in_order(support)
        shown = self._features.shown([e.fields for e in ordered], labels)
        width = self._features.embedder.width

        def forward(own: Parameters, rows: list[int]) -> Tensor:
            vectors = embed(self._features, [shown[i] for i in rows], self._adapter(own))
            return p.head_scale * (vectors @ own["weight"] + own["bias"])

        found, _ = train(
            {**self._start, "weight": torch.zeros(width, ways), "bias": torch.zeros(ways)},
            forward,
            places(ordered, labels, columns),
            ways,
            p,
        )
        adapter = self._adapter(found)

        def represent(texts: Sequence[Fields], given: Labels) -> Tensor:
            return embed(self._features, self._features.shown(texts, given), adapter)

        parts = (p.head_scale * found["weight"][None], p.head_scale * found["bias"][None])
        trained = sum(value.numel() for value in found.values())
        return HeadPredictor(represent, labels, columns, Fitted(linear.apply, parts, trained))

    def _adapter(self, own: Parameters) -> Adapter:
        return Adapter({name: own[name] for name in self._start}, self._scale)

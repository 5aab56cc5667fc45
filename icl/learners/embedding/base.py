"""`EmbeddingLearner`: a head on frozen embeddings as a `Learner`; one subclass a head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from icl.learners.base import Learner, Predictor
from icl.learners.embedding.features import FeatureParams, Features
from icl.learners.embedding.heads.fitted import Fitted
from icl.learners.embedding.whitening import Whitening
from icl.learners.support import fill_columns, in_order, places, present_columns, uniform
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work, forward

if TYPE_CHECKING:
    from icl.episodes.episode import Episode
    from icl.learners.work import TokenCounter
    from icl.models.base import Ability, Model

Support = tuple[Sequence[Example], Labels]
Embed = Callable[[Sequence[Fields], Labels], Tensor]


@dataclass(eq=False)
class HeadPredictor(Predictor):
    """One task's head: embeds queries and scores them."""

    embed: Embed
    labels: Labels
    columns: Sequence[int]
    head: Fitted

    def __post_init__(self) -> None:
        self.trained_parameters = self.head.trained

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the queries; a label without support gets no mass."""
        return fill_columns(self.scores(texts), self.columns, self.labels)

    def scores(self, texts: Sequence[Fields]) -> Tensor:
        """Return scores before the softmax, of the labels with support: (queries, labels there)."""
        return self._asked(self.head.scores, texts)

    def in_scope(self, texts: Sequence[Fields]) -> Tensor:
        """Return how much each query seems to belong to any label at all, shape (queries,).

        It is the best label's score before the softmax (the nearest prototype's negative distance,
        the largest logit): higher for queries in scope. Compare within one predictor only.
        """
        return self._asked(self.head.in_scope, texts)

    @torch.no_grad()
    def _asked(self, head: Callable[[Tensor], Tensor], texts: Sequence[Fields]) -> Tensor:
        return head(self.embed(texts, self.labels)[None])[0]


@dataclass(frozen=True)
class _Draft:
    """One task: its labels, how its texts are embedded, its support embedded, and columns."""

    labels: Labels
    columns: list[int]
    vectors: Tensor
    wanted: Tensor
    embed: Embed


class EmbeddingLearner(Learner):
    """Embed the support set with the frozen model and fit a head to the vectors.

    Support sets are first put in an order of their own (by content), and labels without support
    are left out; with fewer than two labels in support every label is alike.
    """

    Params: ClassVar[type[FeatureParams]] = FeatureParams

    @classmethod
    def needs(cls, params: FeatureParams) -> frozenset[Ability]:
        """Vectors, as the parameters say."""
        return params.needs

    def __init__(self, backbone: Model, params: FeatureParams) -> None:
        """Embed with this backbone."""
        self._features = Features(backbone, params)
        self._params: Any = params

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: FeatureParams) -> Work:
        """Embed every text once."""
        texts = params.uncut((*episode.support, *episode.query), episode.labels, counter.encoder)
        return forward(counter.embedded(texts, params.layer))

    @abstractmethod
    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Fit the head to some tasks: (tasks, n, width), (tasks, n) in 0 to ``ways - 1``."""

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Embed one support set and fit the head."""
        return self.adapt_batch([(support, labels)])[0]

    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Fit the heads of tasks with equally many examples and labels at once."""
        drafts = [self._draft(support, labels) for support, labels in tasks]
        shapes: dict[tuple[int, int], list[tuple[int, _Draft]]] = {}
        for i, draft in enumerate(drafts):
            if draft is not None:
                shapes.setdefault((len(draft.vectors), len(draft.columns)), []).append((i, draft))
        found = [uniform(labels) for _, labels in tasks]
        for (_, ways), group in shapes.items():
            vectors = torch.stack([draft.vectors for _, draft in group])
            head = self.fit(vectors, torch.stack([draft.wanted for _, draft in group]), ways)
            for place, (i, own) in enumerate(group):
                found[i] = HeadPredictor(own.embed, own.labels, own.columns, head.task(place))
        return found

    def _draft(self, support: Sequence[Example], labels: Labels) -> _Draft | None:
        columns = present_columns(support, labels)
        if len(columns) < 2:
            return None
        ordered = in_order(support)
        wanted = places(ordered, labels, columns)
        vectors = self._features([example.fields for example in ordered], labels)
        if not self._params.whiten:
            return _Draft(labels, columns, vectors, wanted, self._features)
        white = Whitening.fit(vectors)
        return _Draft(
            labels, columns, white(vectors), wanted, lambda x, y: white(self._features(x, y))
        )

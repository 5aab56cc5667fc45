"""`EmbeddingLearner`: a head on frozen embeddings as a `Learner`; one subclass a head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from icl.learners.base import Learner, Predictor
from icl.learners.embedding.features import FeatureParams, Features, targets
from icl.learners.embedding.heads.fitted import Fitted
from icl.learners.embedding.whitening import Whitening
from icl.learners.support import fill_columns, in_order, present_columns, uniform
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Ability, Model

Support = tuple[Sequence[Example], Labels]
Embed = Callable[[Sequence[Fields], Labels], Tensor]


class HeadPredictor(Predictor):
    """One task's head: embeds queries and scores them."""

    def __init__(
        self,
        embed: Embed,
        labels: Labels,
        columns: Sequence[int],
        head: Fitted,
        whitening: Whitening | None = None,
    ) -> None:
        self._embed = embed
        self._labels = labels
        self._columns = tuple(columns)
        self._head = head
        self._whitening = whitening
        self.trained_parameters = head.trained

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Score the queries; a label without support gets no mass."""
        return fill_columns(self.scores(texts), self._columns, self._labels)

    def scores(self, texts: Sequence[Fields]) -> Tensor:
        """Return scores before the softmax, of the labels with support: (queries, labels there)."""
        return self._head_of(texts, Fitted.scores)

    def in_scope(self, texts: Sequence[Fields]) -> Tensor:
        """Return how much each query seems to belong to any label at all, shape (queries,).

        It is the best label's score before the softmax (the nearest prototype's negative distance,
        the largest logit): higher for queries in scope. Compare within one predictor only.
        """
        return self._head_of(texts, Fitted.in_scope)

    @torch.no_grad()
    def _head_of(self, texts: Sequence[Fields], what: Callable[[Fitted, Tensor], Tensor]) -> Tensor:
        queries = self._embed(texts, self._labels)
        if self._whitening is not None:
            queries = self._whitening(queries)
        return what(self._head, queries[None])[0]


@dataclass(frozen=True)
class _Draft:
    """One task, embedded."""

    labels: Labels
    columns: list[int]
    vectors: Tensor
    wanted: Tensor
    whitening: Whitening | None


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
        self._whiten = params.whiten

    @abstractmethod
    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Fit the head to some tasks: (tasks, n, width), (tasks, n) in 0 to ``ways - 1``."""

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Embed one support set and fit the head."""
        return self.adapt_batch([(support, labels)])[0]

    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Fit the heads of tasks with equally many examples and labels at once."""
        drafts = [self._draft(support, labels) for support, labels in tasks]
        shapes: dict[tuple[int, int], list[int]] = {}
        for i, draft in enumerate(drafts):
            if draft is not None:
                shapes.setdefault((len(draft.vectors), len(draft.columns)), []).append(i)
        found = [uniform(labels) for _, labels in tasks]
        for (_, ways), members in shapes.items():
            group = [draft for i in members if (draft := drafts[i]) is not None]
            head = self.fit(
                torch.stack([draft.vectors for draft in group]),
                torch.stack([draft.wanted for draft in group]),
                ways,
            )
            for place, (i, draft) in enumerate(zip(members, group, strict=True)):
                found[i] = HeadPredictor(
                    self._features, draft.labels, draft.columns, head.task(place), draft.whitening
                )
        return found

    def _draft(self, support: Sequence[Example], labels: Labels) -> _Draft | None:
        columns = present_columns(support, labels)
        if len(columns) < 2:
            return None
        ordered = in_order(support)
        vectors = self._features([example.fields for example in ordered], labels)
        whitening = Whitening.fit(vectors) if self._whiten else None
        if whitening is not None:
            vectors = whitening(vectors)
        place = torch.zeros(len(labels), dtype=torch.long)
        place[columns] = torch.arange(len(columns))
        return _Draft(labels, columns, vectors, place[targets(ordered, labels)], whitening)

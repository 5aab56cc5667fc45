"""`Demonstrator`: which examples stand before each query, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from icl.prompting.calibration import domain_inputs
from icl.prompting.choice import Choice, at_random, balanced, dpp, dpp_kernel, in_order, mmr
from icl.prompting.order import BY_ENTROPY, Order, best_order, candidates, nearest_last
from icl.prompting.probes import written
from icl.prompting.scoring import Scorer
from icl.prompting.seeds import shuffled
from icl.prompting.similar import BM25, Floats, embeddings, nearest
from icl.tasks.task import Example
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Model

Shown = tuple[Example, ...]


@dataclass(slots=False)
class Demonstrator:
    """Chooses and orders demonstrations; the parameters are those of `InContextParams`.

    What is drawn depends on the seed and the set of examples; what is chosen for a query depends
    on that query alone.
    """

    backbone: Model
    support: Shown
    choice: Choice = "all"
    count: int | None = None
    diversity: float = 0.5
    order: Order = "given"
    candidates: int = 24
    probes: Literal["written", "words"] = "written"
    probe_count: int = 24
    orders: int = 1
    seed: int = 0
    _best: dict[int, Shown] = field(default_factory=dict)

    def arrangements(self, texts: Sequence[Fields], scorer: Scorer | None) -> list[list[Shown]]:
        """Return the demonstrations before each query, once for each member of the ensemble.

        Args:
            texts: the queries.
            scorer: judges orders by entropy; None leaves those as they are given.

        Returns:
            One list a member, one tuple of examples a query.
        """
        chosen = self._chosen(texts)
        if self.orders > 1:
            return [
                [shuffled(shown, self.seed, "order", member) for shown in chosen]
                for member in range(self.orders)
            ]
        return [self._ordered(chosen, texts, scorer)]

    def _ordered(
        self, chosen: list[Shown], texts: Sequence[Fields], scorer: Scorer | None
    ) -> list[Shown]:
        if self.order == "random":
            return [shuffled(shown, self.seed, "order", 0) for shown in chosen]
        if self.order == "similarity" and self.support:
            places = {id(example): i for i, example in enumerate(self.support)}
            return [
                nearest_last(shown, row[[places[id(e)] for e in shown]])
                for shown, row in zip(chosen, self._similarity(texts), strict=True)
            ]
        if self.order in BY_ENTROPY and scorer is not None and chosen and len(chosen[0]) > 1:
            # the demonstrations are the same for all queries, and the choice of their order too
            if id(scorer) not in self._best:
                self._best[id(scorer)] = self._by_entropy(chosen[0], scorer)
            return [self._best[id(scorer)]] * len(chosen)
        return chosen

    def _by_entropy(self, shown: Shown, scorer: Scorer) -> Shown:
        orders = candidates(shown, self.candidates, self.seed)
        probes: list[Fields] = []
        if self.probes == "written":
            each = -(-self.probe_count // len(orders))
            probes = written(self.backbone, scorer.labels, orders, each, self.seed)
        if not probes:  # asked for, or the model wrote nothing that the template can be read in
            probes = list(domain_inputs(shown, self.seed))
        return best_order(scorer, orders, probes[: self.probe_count], self.order)

    def _chosen(self, texts: Sequence[Fields]) -> list[Shown]:
        count = self.count
        if count is None or not self.support:
            return [self.support] * len(texts)
        if self.choice == "random":
            return [at_random(self.support, count, self.seed)] * len(texts)
        if self.choice == "balanced":
            return [balanced(self.support, count, self.seed)] * len(texts)
        if self.choice == "bm25":
            found = [nearest(self._bm25.scores(fields), count) for fields in texts]
        else:
            found = [self._near(row, count) for row in self._similarity(texts)]
        return [in_order(self.support, [self.support[i] for i in places]) for places in found]

    def _near(self, relevance: Floats, count: int) -> list[int]:
        if self.choice == "knn":
            return nearest(relevance, count)
        likeness, weight = self._embedded @ self._embedded.T, 1 - self.diversity
        if self.choice == "mmr":
            return mmr(relevance, likeness, count, weight)
        return dpp(dpp_kernel(relevance, likeness, weight), count)

    def _similarity(self, texts: Sequence[Fields]) -> Floats:
        """Return cosines of queries and support examples, shape (queries, support)."""
        return embeddings(self.backbone, texts) @ self._embedded.T

    @cached_property
    def _embedded(self) -> Floats:
        return embeddings(self.backbone, [e.fields for e in self.support])

    @cached_property
    def _bm25(self) -> BM25:
        return BM25([e.fields for e in self.support])

"""`Composition`: how many examples of which classes an episode holds."""

from __future__ import annotations

import itertools
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

from icl.episodes.cell import Cell
from icl.episodes.stream import Stream
from icl.errors import IclError

Balance = Literal["balanced", "natural"]

# `math.exp` may differ in the last bit between machines; decimal's exp and ln are correctly
# rounded everywhere.
_DECIMAL = Context(prec=18)


@dataclass(frozen=True, slots=True)
class Plan:
    """The make-up of one episode.

    Attributes:
        order: the classes in the order of the episode's labels.
        queries: (class, count) pairs.
        support: the class of each support example; a plan for fewer shots is its beginning.
        pool: the class of each further example, the same for all shots.
    """

    order: tuple[int, ...]
    queries: tuple[tuple[int, int], ...]
    support: tuple[int, ...]
    pool: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """How classes and numbers of examples vary; the default is plain N-way K-shot.

    ``Composition(max_ways=50, vary_shots=True, support="natural", imbalance=2.0)`` with 5 ways
    and 100 shots follows Meta-Dataset (Triantafillou et al. 2020, appendix "Episode sampling";
    its reference code's defaults), with two differences that keep supports nested over shots:
    each next support example goes to the class that is furthest behind its share
    (Sainte-Laguë) where Meta-Dataset rounds shares down, and queries are a number for the whole
    episode where Meta-Dataset takes up to 10 a class. Its cap of 500 examples is not kept.

    Attributes:
        max_ways: the number of ways is uniform from `ways` to this, or to the number of classes
            that suffice; None: always `ways`.
        vary_shots: the size of the support set varies: with b uniform in (0, 1] for the episode,
            class c contributes ceil(b x min(shots, examples left in c)); a class always has one.
        support: ``natural`` shares the support out in proportion to the classes' sizes.
        imbalance: a class's share is multiplied by a factor drawn log-uniformly from
            [1/imbalance, imbalance]; 1: none.
        queries: ``natural`` draws queries from all the classes' examples together, so that
            frequent classes are asked more often; ``balanced`` asks all equally often.
    """

    max_ways: int | None = None
    vary_shots: bool = False
    support: Balance = "balanced"
    imbalance: float = 1.0
    queries: Balance = "balanced"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.imbalance) and self.imbalance >= 1):
            raise IclError(f"The imbalance is {self.imbalance}; it must be 1 or more.")
        for name in ("support", "queries"):
            if getattr(self, name) not in ("balanced", "natural"):
                raise IclError(
                    f"The {name} is {getattr(self, name)!r}; it must be 'balanced' or 'natural'."
                )

    @property
    def plain(self) -> bool:
        """Whether every episode has the same ways and all classes the same shots."""
        return self == PLAIN

    def least_support(self, shots: int) -> int:
        """Return how many support examples a class must at least be able to give."""
        return min(shots, 1) if self.vary_shots else shots

    def plan(
        self,
        stream: Stream,
        cell: Cell,
        eligible: Sequence[int],
        *,
        ways: int,
        queries: int,
        shots: int,
        max_shots: int,
        pool: int = 0,
    ) -> Plan:
        """Draw the make-up of an episode.

        Args:
            stream: where the randomness comes from.
            cell: where the examples will come from.
            eligible: the classes that may take part.
            ways: the (least) number of classes.
            queries: query examples in the episode.
            shots: support examples a class.
            max_shots: the most shots for which this episode may be drawn; decides nothing but
                what must be left over for the support.
            pool: further examples that must be left over, spread over the classes.
        """
        reserve = -(-pool // ways)
        if self.max_ways is not None:
            ways += stream.below(max(ways, min(self.max_ways, len(eligible))) - ways + 1)
        classes = stream.sample(eligible, ways)
        order = stream.shuffled(classes)
        further = tuple(classes[place % ways] for place in range(pool))
        if self.plain:
            return Plan(tuple(order), _even(classes, queries), tuple(classes * shots), further)
        most = queries + ways * max_shots + pool
        least = self.least_support(max_shots) + reserve
        if self.queries == "natural":
            limits = [_query_limit(cell, label, least, most) for label in classes]
            asked = self._natural_queries(stream, cell, classes, limits, queries)
        else:
            asked = _even(classes, queries)
        room = [cell.room(label, count, most)[0] - reserve for label, count in asked]
        weights = [self._weight(stream, cell, label) for label in classes]
        size = shots * ways
        if self.vary_shots:
            scale = stream.uniform()
            size = sum(math.floor(scale * min(shots, r)) + 1 for r in room) if shots else 0
        return Plan(tuple(order), asked, tuple(_share(classes, weights, room, size)), further)

    def _natural_queries(
        self,
        stream: Stream,
        cell: Cell,
        classes: Sequence[int],
        limits: Sequence[int],
        queries: int,
    ) -> tuple[tuple[int, int], ...]:
        """Draw queries' classes in proportion to the examples left, within the limits."""
        sizes = [cell.query.size(label) for label in classes]
        counts = [0] * len(classes)
        for _ in range(queries):
            left = [
                size - count if count < limit else 0
                for size, count, limit in zip(sizes, counts, limits, strict=True)
            ]
            place = stream.below(sum(left))
            counts[bisect(list(itertools.accumulate(left)), place)] += 1
        return tuple(zip(classes, counts, strict=True))

    def _weight(self, stream: Stream, cell: Cell, label: int) -> float:
        """Return a class's share of the support, up to a factor common to all."""
        weight = float(cell.support.size(label)) if self.support == "natural" else 1.0
        if self.imbalance > 1:
            power = Decimal(2 * stream.uniform() - 1)
            log = _DECIMAL.ln(Decimal(self.imbalance))
            weight *= float(_DECIMAL.exp(_DECIMAL.multiply(power, log)))
        return weight


PLAIN = Composition()


def _even(classes: Sequence[int], queries: int) -> tuple[tuple[int, int], ...]:
    """Spread queries over classes; the first ones, which are random, take the remainder."""
    each, more = divmod(queries, len(classes))
    return tuple((label, each + (place < more)) for place, label in enumerate(classes))


def _query_limit(cell: Cell, label: int, support: int, episode: int) -> int:
    """Return the most queries that a class can give and still have `support` examples left."""
    spare, limit = cell.room(label, 0, episode)
    if cell.room(label, limit, episode)[0] >= support:
        return limit
    return min(limit, spare - support)


def _share(
    classes: Sequence[int], weights: Sequence[float], room: Sequence[int], size: int
) -> list[int]:
    """Deal `size` places one by one, first one to each class, then by Sainte-Laguë."""
    counts = [0] * len(classes)
    dealt: list[int] = []
    for _ in range(size):
        open_slots = [slot for slot, count in enumerate(counts) if count < room[slot]]
        slot = max(
            open_slots,
            key=lambda s: (not counts[s], weights[s] / (2 * counts[s] + 1), -s),
        )
        counts[slot] += 1
        dealt.append(classes[slot])
    return dealt

"""Which examples are shown: at random, class by class, near the query, or near and diverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from icl.prompting.seeds import number, shuffled
from icl.tasks.task import Example

Choice = Literal["all", "random", "balanced", "knn", "bm25", "mmr", "dpp"]
BY_QUERY: frozenset[str] = frozenset({"knn", "bm25", "mmr", "dpp"})
EMBEDDED: frozenset[str] = frozenset({"knn", "mmr", "dpp"})


def in_order(examples: Sequence[Example], chosen: Sequence[Example]) -> tuple[Example, ...]:
    """Return the chosen examples in the order of the set that they were chosen from."""
    ids = {id(e) for e in chosen}
    return tuple(e for e in examples if id(e) in ids)


def at_random(examples: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Draw examples without looking at them."""
    return in_order(examples, shuffled(examples, seed, "choice")[:count])


def balanced(examples: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Draw as evenly over the labels as the set allows; which labels get one more is drawn too."""
    by_label: dict[str, list[Example]] = {}
    for example in shuffled(examples, seed, "choice"):
        by_label.setdefault(example.label, []).append(example)
    labels = sorted(by_label, key=lambda label: (number(seed, "labels", label), label))
    chosen: list[Example] = []
    while len(chosen) < min(count, len(examples)):
        for label in labels:
            if by_label[label] and len(chosen) < count:
                chosen.append(by_label[label].pop(0))
    return in_order(examples, chosen)

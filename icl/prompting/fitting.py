"""Many shots: as many whole demonstrations as the model's context holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from icl.errors import IclError
from icl.models.tokens import encode
from icl.tasks.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Build = Callable[[Sequence[Example]], Sequence[str]]
"""Writes all texts that must fit, given the demonstrations."""


def fit(
    tokenizer: PreTrainedTokenizerBase, shown: Sequence[Example], build: Build, room: int
) -> tuple[Example, ...]:
    """Return the most demonstrations with which every text fits in `room` tokens.

    Whole demonstrations are dropped, from the end, one of the most frequent label at a time, so
    that labels stay as balanced as they were; what is dropped is the same for all texts, that is
    for all labels. The order of what stays is kept.

    Raises:
        IclError: nothing fits even without demonstrations.
    """
    order = drop_order(shown)

    def kept(dropped: int) -> tuple[Example, ...]:
        gone = set(order[:dropped])
        return tuple(e for i, e in enumerate(shown) if i not in gone)

    def longest(dropped: int) -> int:
        return max(len(row) for row in encode(tokenizer, build(kept(dropped))))

    if longest(0) <= room:
        return tuple(shown)
    least = longest(len(shown)) if shown else longest(0)
    if least > room:
        raise IclError(
            f"A query of {least} tokens does not fit in the model's context of {room}; "
            "shorten the texts or take a model with a longer context."
        )
    too_few, enough = 0, len(shown)  # dropped: `too_few` does not fit, `enough` does
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if longest(middle) <= room:
            enough = middle
        else:
            too_few = middle
    return kept(enough)


def drop_order(shown: Sequence[Example]) -> list[int]:
    """Return the places of demonstrations in the order in which they are dropped."""
    places: dict[str, list[int]] = {}
    for i, example in enumerate(shown):
        places.setdefault(example.label, []).append(i)
    order: list[int] = []
    while len(order) < len(shown):
        most = max(filter(None, places.values()), key=lambda left: (len(left), left[-1]))
        order.append(most.pop())
    return order

"""In which order demonstrations are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from icl.prompting.seeds import shuffled
from icl.prompting.similar import Floats
from icl.tasks.task import Example

Order = Literal["given", "random", "similarity", "global-entropy", "local-entropy"]
BY_ENTROPY: frozenset[str] = frozenset({"global-entropy", "local-entropy"})


def nearest_last(shown: Sequence[Example], similarity: Floats) -> tuple[Example, ...]:
    """Put the most similar demonstration last, next to the query (Liu et al. 2022).

    Args:
        shown: the demonstrations.
        similarity: of each to the query, shape (demonstrations,).
    """
    return tuple(shown[i] for i in np.argsort(similarity, kind="stable"))


def candidates(shown: Sequence[Example], count: int, seed: int) -> list[tuple[Example, ...]]:
    """Return different random orders, at most `count`; they depend on the seed and the set.

    Lu et al. 2022 try 24, all orders of four demonstrations.
    """
    found: dict[tuple[str, ...], tuple[Example, ...]] = {}
    for attempt in range(4 * count):  # few demonstrations have few orders
        order = shuffled(shown, seed, "order", attempt)
        found.setdefault(tuple(e.id for e in order), order)
        if len(found) == count:
            break
    return list(found.values())

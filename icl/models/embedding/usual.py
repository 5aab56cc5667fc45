"""How a causal model embeds where nobody says how: what loses least over many data sets.

`scripts/choose_defaults.py` has tried them; docs/defaults.md has its tables.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from icl.models.embedding.pooling import Pooling

Auto: TypeAlias = Literal["auto"]
AUTO: Final[Auto] = "auto"
USUAL_POOLING: Final[Pooling] = "weighted-mean"


def usual_layer(depth: int) -> int:
    """Return the layer of a causal model of so many whose states say most.

    >>> usual_layer(12), usual_layer(18)
    (11, 16)
    """
    return round(11 * depth / 12)


def layer_before(depth: int) -> int:
    """Return the layer that was taken before that was measured: two thirds of the way up.

    >>> layer_before(12), layer_before(18)
    (8, 12)
    """
    return round(2 * depth / 3)

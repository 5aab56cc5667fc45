"""What explains the variance of a full factorial's cell means.

**Decomposition.** With the cell means ``m_c`` over the test episodes and ``m`` their mean, the
total is ``SS = sum_c (m_c - m)^2``. A factor's part is ``SS_A = N / a sum_i (m_i - m)^2`` over its
a levels, ``m_i`` the mean of the N / a cells at level i. Two factors' interaction is the same of
``m_ij - m_i - m_j + m``. Shares are ``SS_A / SS``; in a full factorial they add up to one with what
is left to interactions of three and more.

**Luck.** Cell means also differ because episodes are few. With ``y_ie`` the mean of level i on
episode e, ``MS = sum_ie (y_ie - y_i - y_e + y)^2 / ((a - 1) (E - 1))`` is the noise of a level, the
share expected from noise alone is ``(N / a) (a - 1) MS / E / SS``, and ``F = MS_A / MS`` with
``MS_A = E sum_i (y_i - y)^2 / (a - 1)`` is tested on a - 1 and (a - 1)(E - 1) degrees of freedom
(repeated measures, draws as subjects: an "episode" e is a draw, at all its shots).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from icl.evaluation.statistics import Floats, holm


@dataclass(frozen=True, slots=True)
class Effect:
    """What one factor, or the interaction of two, explains.

    Attributes:
        factors: one or two names.
        share: of the variance of cell means.
        luck: the share that noise alone would give; None for interactions.
        p: of the factor's F test, Holm-corrected over the factors; None for interactions, and
            where there is one episode only.
    """

    factors: tuple[str, ...]
    share: float
    luck: float | None = None
    p: float | None = None


def decompose(values: Floats, names: Sequence[str]) -> tuple[tuple[Effect, ...], float]:
    """Part the variance of cell means among factors, see the module's formulas.

    Args:
        values: accuracies, shape (levels of each factor…, episodes).
        names: the factors, in the order of the axes.

    Returns:
        Effects of factors that vary and of their pairs, largest share first, and the share that is
        left. All shares are 0 where all cell means are equal.
    """
    cells = values.mean(-1)
    episodes = values.shape[-1]
    total = float(((cells - cells.mean()) ** 2).sum())
    axes = [axis for axis in range(cells.ndim) if cells.shape[axis] > 1]
    scale = 1 / total if total > 1e-15 else 0.0
    effects: list[Effect] = []
    p_values: list[float] = []
    for axis in axes:
        share = scale * float((_interaction(cells, (axis,)) ** 2).sum())
        luck, p = None, None
        if episodes > 1:
            noise, p = _noise(values, axis)
            luck = min(1.0, scale * noise * cells.size / cells.shape[axis])
            p_values.append(p)
        effects.append(Effect((names[axis],), share, luck, p))
    if p_values:
        effects = [
            Effect(e.factors, e.share, e.luck, float(p))
            for e, p in zip(effects, holm(p_values), strict=True)
        ]
    for pair in combinations(axes, 2):
        share = scale * float((_interaction(cells, pair) ** 2).sum())
        effects.append(Effect((names[pair[0]], names[pair[1]]), share))
    explained = sum(effect.share for effect in effects)
    rest = max(0.0, 1 - explained) if scale else 0.0
    return tuple(sorted(effects, key=lambda effect: -effect.share)), rest


def _interaction(cells: Floats, axes: tuple[int, ...]) -> Floats:
    """Return an effect at every cell: means over the other axes, less all lower effects."""
    found = np.zeros_like(cells)
    for size in range(len(axes) + 1):
        for kept in combinations(axes, size):
            others = tuple(a for a in range(cells.ndim) if a not in kept)
            sign = (-1) ** (len(axes) - size)
            found = found + sign * cells.mean(axis=others, keepdims=True)
    return found


def _noise(values: Floats, axis: int) -> tuple[float, float]:
    """Return a factor's expected sum of squares from noise, over its levels, and its F test's p."""
    from scipy.stats import f

    levels, episodes = values.shape[axis], values.shape[-1]
    others = tuple(a for a in range(values.ndim - 1) if a != axis)
    table = values.mean(axis=others)  # (levels, episodes)
    by_level = table.mean(1, keepdims=True)
    left = table - by_level - table.mean(0, keepdims=True) + table.mean()
    degrees = (levels - 1) * (episodes - 1)
    noise = float((left**2).sum()) / degrees
    between = episodes * float(((by_level - table.mean()) ** 2).sum()) / (levels - 1)
    if noise < 1e-15:
        return 0.0, 0.0 if between > 1e-15 else 1.0
    return (levels - 1) * noise / episodes, float(f.sf(between / noise, levels - 1, degrees))

"""How many episodes a difference takes, in a terminal."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

from icl.evaluation.grid import Grid
from icl.evaluation.power import ALPHA, Components, components, episodes_needed
from icl.evaluation.power import power as power_of
from icl.reporting.numbers import episodes_of, metric_name, percent, points

if TYPE_CHECKING:
    from rich.console import Console


def print_plan(
    part: Grid,
    metric: str,
    console: Console,
    *,
    difference: float,
    power: float,
    comparisons: int | None = None,
) -> None:
    """Print, for every pair of a pilot's learners, how many episodes show a true difference.

    Args:
        part: the pilot's episodes that the metric judges, of two draws and two learners or more.
        metric: what is to differ.
        console: where to print.
        difference: the true difference, as a share.
        power: the chance to find it.
        comparisons: how many the p-values will be corrected for; by default all pairs.
    """
    from rich.table import Table
    from rich.text import Text

    pairs = list(combinations(range(len(part.learners)), 2))
    comparisons = comparisons or len(pairs)
    sample, draws = part.scores(metric), part.draws
    each = len(part.episodes) / draws  # episodes of a draw
    alpha = ALPHA / comparisons
    found: list[tuple[str, str, float, Components, int | None]] = []
    for i, j in pairs:
        parts = components(sample, i, j)
        fewest = episodes_needed(parts, difference, power, alpha)
        needed = None if fewest is None else math.ceil(fewest * each)
        gap = float(sample.mean[i] - sample.mean[j])
        found.append((part.learners[i], part.learners[j], gap, parts, needed))
    found.sort(key=lambda row: (row[4] is None, row[4] or 0), reverse=True)
    console.print(
        Text(_sentence(found, metric, len(part.episodes), difference, power), style="bold")
    )
    console.print()
    table = Table(
        title=Text(
            f"Pilot: {episodes_of(len(part.episodes), draws)}, {part.queries} queries; p below"
            f" {ALPHA:g} after correction for {comparisons} comparison"
            f"{'s' * (comparisons != 1)}"
        ),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for heading in ("First", "Second"):
        table.add_column(heading, overflow="fold")
    for heading in ("In the pilot", "Power there", "Episodes needed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for first, second, gap, parts, needed in found:
        there = power_of(parts, difference, draws, alpha)
        table.add_row(
            Text(first),
            Text(second),
            points(gap),
            percent(there, 0),
            "more items" if needed is None else str(needed),
        )
    console.print(table)
    if any(needed is None for *_, needed in found):
        items = min(parts.items for *_, parts, needed in found if needed is None)
        console.print(
            Text(
                f"More items: no number of episodes will do, since they draw from only about"
                f" {items:.0f} items, whose difficulty differs too much.",
                style="yellow",
            )
        )
    console.print()
    console.print(
        Text(
            "From the pilot's own spread, which is uncertain where the pilot is small; for episodes"
            " of the same kind, size and mix as the pilot's.",
            style="dim",
        )
    )


def _sentence(
    found: list[tuple[str, str, float, Components, int | None]],
    metric: str,
    episodes: int,
    difference: float,
    power: float,
) -> str:
    known = [needed for *_, needed in found if needed is not None]
    what = (
        f"To see a true difference of {points(difference)[1:]} points in {metric_name(metric)} with"
        f" a power of {percent(power, 0)}"
    )
    if len(known) < len(found):
        return f"{what}, {len(found) - len(known)} of {len(found)} pairs need more items."
    most = max(known)
    pairs = "every pair" if len(found) > 1 else "the pair"
    already = "; the pilot has them already" if most <= episodes else f"; the pilot has {episodes}"
    return f"{what}, {most} episodes do for {pairs} of learners{already}."

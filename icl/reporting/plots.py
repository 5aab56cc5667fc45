"""The report's plots, to be made within `icl.reporting.svg.drawing`.

No text of the user's is drawn: names stand in the page's own legend, where the reader's fonts know
every script. `icl.reporting.figures` adds a legend where a plot is a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary
from icl.reporting.numbers import NBSP, metric_title
from icl.reporting.palette import Style
from icl.reporting.svg import faint, ink, learner_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from icl.evaluation.reliability import Calibration

_SIZE = (4.5, 3.3)


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, and what a reader who cannot see it should hear."""

    figure: Figure
    label: str


def accuracy_by_shots(summary: Summary, setting: str, styles: Mapping[str, Style]) -> Plot:
    """Draw each learner's accuracy with its interval against shots, in one setting."""
    boards = [board for board in summary.boards if board.setting == setting]
    figure, axes = _accuracy_axes(summary.metric)
    _chance(axes, boards)
    width = 0.36 if len(boards) > 1 else 0.8
    for i, name in enumerate(summary.learners):
        # Learners stand side by side, so that their intervals can be told apart.
        shift = width * ((i + 0.5) / len(summary.learners) - 0.5)
        rows = [board.row(name) for board in boards]
        _intervals(axes, [x + shift for x in range(len(boards))], rows, styles[name])
    axes.set_xticks(range(len(boards)), [str(board.shots) for board in boards])
    axes.set_xlim(-0.5, len(boards) - 0.5)
    axes.set_xlabel("Shots (examples per class)")
    label = f"{metric_title(summary.metric)} by shots; the tables hold the same figures"
    return Plot(figure, label)


def accuracy_by_cost(
    board: Board,
    cost: Literal["seconds", "computed_tokens"],
    styles: Mapping[str, Style],
) -> Plot:
    """Draw accuracy against what an episode costs, on a scale of tens.

    The dashed line joins the learners that no other beats at their cost or less.
    """
    spent = {row.learner: float(getattr(row, cost)) for row in board.rows}
    known = [math.log10(value) for value in spent.values() if value > 0]
    zero = math.floor(min(known)) - 1 if known else 0  # free learners stand left of all others
    place = {name: math.log10(v) if v > 0 else zero for name, v in spent.items()}
    figure, axes = _accuracy_axes(board.metric)
    _chance(axes, [board])
    frontier, best = [], -1.0
    for row in sorted(board.rows, key=lambda row: (spent[row.learner], -row.accuracy)):
        if row.accuracy > best:
            best = row.accuracy
            frontier.append((place[row.learner], 100 * best))
    axes.plot(*zip(*frontier, strict=True), color=faint(), linestyle="--", linewidth=1, zorder=1)
    for row in board.rows:
        _intervals(axes, [place[row.learner]], [row], styles[row.learner])
    low, high = math.floor(min(place.values())), math.ceil(max(place.values()))
    step = max(1, math.ceil((high - low) / 5))
    free = 0 in spent.values()
    ticks = sorted({*range(high, low - 1, -step), *([zero] if free else [])})
    label = _seconds if cost == "seconds" else _tokens
    axes.set_xticks(ticks, ["0" if free and t == zero else label(t) for t in ticks])
    axes.set_xlim(low - 0.3, max(high, low + 1) + 0.3)
    axes.set_xlabel("Time an episode" if cost == "seconds" else "Tokens computed an episode")
    return Plot(figure, f"{metric_title(board.metric)} against cost; the tables hold the figures")


def reliability(calibration: Calibration, style: Style) -> Plot:
    """Draw how often a learner is right against how sure it is.

    On the dashed diagonal it is right as often as it says. The bars say how its queries spread over
    confidence, the highest bar reaching a quarter of the height.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6, 2.4), layout="constrained")
    axes = figure.add_subplot()
    bins = [b for b in calibration.bins if b.count]
    most = max(b.count for b in bins)
    axes.bar(
        [100 * (b.low + b.high) / 2 for b in bins],
        [25 * b.count / most for b in bins],
        width=[100 * (b.high - b.low) * 0.9 for b in bins],
        color=faint(),
        alpha=0.5,
        zorder=1,
    )
    axes.plot([0, 100], [0, 100], color=ink(), linestyle="--", linewidth=0.9, zorder=1)
    axes.plot(
        [100 * b.confidence for b in bins],
        [100 * b.accuracy for b in bins],
        color=learner_colour(style.colour),
        marker=style.marker,
        linewidth=1.2,
        markersize=5.5,
        clip_on=False,
        zorder=2,
    )
    shares = {tick: f"{tick}{NBSP}%" for tick in (0, 50, 100)}
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="Confidence", ylabel="Right")
    axes.set_xticks(list(shares), shares.values())
    axes.set_yticks(list(shares), shares.values())
    return Plot(figure, "Share right by confidence; the table has the error")


def _intervals(axes: Axes, places: list[float], rows: list[Row], style: Style) -> None:
    axes.errorbar(
        places,
        [100 * row.accuracy for row in rows],
        yerr=[
            [100 * max(row.accuracy - row.low, 0.0) for row in rows],
            [100 * max(row.high - row.accuracy, 0.0) for row in rows],
        ],
        color=learner_colour(style.colour),
        marker=style.marker,
        markersize=6.5,
        linewidth=1.4,
        elinewidth=1.2,
        capsize=2.5,
        zorder=2,
    )


def _accuracy_axes(metric: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20), [f"{tick}{NBSP}%" for tick in range(0, 101, 20)])
    axes.set_ylabel(metric_title(metric))
    axes.grid(axis="y", color=faint(), linewidth=0.6, alpha=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _chance(axes: Axes, boards: list[Board]) -> None:
    """Mark even guessing with a dotted line; settings may differ in their number of labels."""
    levels = sorted({round(100 * b.chance, 6) for b in boards if b.chance})
    for level in levels:
        axes.axhline(level, color=ink(), linestyle=":", linewidth=1, zorder=1)


def _seconds(power: int) -> str:
    if power < -3:
        return f"{10 ** (power + 6):g}{NBSP}µs" if power >= -6 else f"1e{power}{NBSP}s"
    return f"{10 ** (power + 3)}{NBSP}ms" if power < 0 else f"{10**power}{NBSP}s"


def _tokens(power: int) -> str:
    for unit, base in (("G", 9), ("M", 6), ("k", 3)):
        if power >= base:
            return f"{10 ** (power - base)}{unit}"
    return f"{10.0**power:g}"

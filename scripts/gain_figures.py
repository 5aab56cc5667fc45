"""Figures and tables of gain curves, and what they say in words; see `gain_curves.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gain_curves import UNTRAINED, Interval, Point, pays_from

from icl.reporting.numbers import points
from icl.reporting.palette import Style, styles
from icl.reporting.svg import drawing, faint, file_svg, ink, learner_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gain_figure(found: Sequence[Point], title: str, *, ticks: Sequence[float]) -> str:
    """Draw gains in points against what is varied, a panel a number of shots; return SVG.

    Solid: over the best learner without meta-training; dashed: over the same learner untrained;
    dotted: what is left of accuracy over chance where labels are dealt by lot, the control.
    """
    from matplotlib.figure import Figure

    shots = sorted({p.shots for p in found})
    looks = styles(tuple(dict.fromkeys(p.learner for p in found)))
    place = {x: n for n, x in enumerate(ticks)}
    with drawing():
        figure = Figure(figsize=(4.4 * len(shots) + 0.2, 4.1), layout="constrained")
        panels = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
        for axes, number in zip(panels, shots, strict=True):
            axes.axhline(0, color=ink(), linewidth=0.8)
            axes.grid(axis="y", color=faint(), linewidth=0.6, alpha=0.5)
            for n, (learner, look) in enumerate(looks.items()):
                own = [p for p in found if p.learner == learner and p.shots == number]
                shift = 0.12 * (n - (len(looks) - 1) / 2)
                xs = [place[p.x] + shift for p in own]
                _bars(axes, xs, [p.over_floor for p in own], look)
                _line(axes, xs, [p.over_itself for p in own], look, "--")
                lot = [
                    None if p.control is None else Interval(p.control.value - p.chance, 0, 0)
                    for p in own
                ]
                _line(axes, xs, lot, look, ":")
            axes.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
            axes.set_xlabel(title)
            axes.set_title(_shots(number), fontsize=11)
        panels[0].set_ylabel("points of accuracy")
        ways = (
            ("-", "over the best without meta-training"),
            ("--", "over itself untrained"),
            (":", "labels by lot, over chance"),
        )
        _legend(figure, looks, ways)
        return file_svg(figure, f"Gain of meta-training against {title}; the table has the figures")


def memory_figure(
    found: Mapping[str, Sequence[Point]], title: str, *, ticks: Sequence[float]
) -> str:
    """Draw accuracy against steps, a panel a learner and a line a kind of episodes; return SVG."""
    from matplotlib.figure import Figure

    learners = list(dict.fromkeys(p.learner for points_ in found.values() for p in points_))
    looks = styles(tuple(found))
    place = {x: n for n, x in enumerate(ticks)}
    with drawing():
        figure = Figure(figsize=(4.4 * len(learners) + 0.2, 4.1), layout="constrained")
        panels = figure.subplots(1, len(learners), sharey=True, squeeze=False)[0]
        for axes, learner in zip(panels, learners, strict=True):
            axes.grid(axis="y", color=faint(), linewidth=0.6, alpha=0.5)
            for n, (kind, look) in enumerate(looks.items()):
                own = [p for p in found[kind] if p.learner == learner]
                xs = [place[p.x] + 0.06 * (n - (len(looks) - 1) / 2) for p in own]
                _bars(axes, xs, [p.accuracy for p in own], look)
                _line(axes, xs, [p.control for p in own], look, ":")
                axes.axhline(100 * own[0].chance, color=ink(), linewidth=0.8)
            axes.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
            axes.set_xlabel(title)
            axes.set_title(learner, fontsize=11)
        panels[0].set_ylabel("accuracy in percent")
        _legend(figure, looks, (("-", "own labels"), (":", "labels by lot")))
        return file_svg(figure, "Accuracy against steps; the table has the figures")


def rivals_figure(found: Mapping[str, Sequence[Point]], against: str) -> str:
    """Draw paired differences to one learner with their intervals, a panel a data set; SVG."""
    from matplotlib.figure import Figure

    names = tuple(dict.fromkeys(p.learner for points_ in found.values() for p in points_))
    looks = styles(names)
    with drawing():
        figure = Figure(figsize=(4.4 * len(found) + 0.6, 2.9), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (name, own) in zip(panels, found.items(), strict=True):
            axes.axvline(0, color=ink(), linewidth=0.8)
            axes.axvspan(-2, 2, color=faint(), alpha=0.25, linewidth=0)
            rows = [(p.shots, p.learner) for p in own]
            for y, p in enumerate(own):
                d, look = p.over_floor, looks[p.learner]
                axes.errorbar(
                    [100 * d.value], [-y],
                    xerr=[[100 * (d.value - d.low)], [100 * (d.high - d.value)]],
                    color=learner_colour(look.colour), marker=look.marker, capsize=3,
                )  # fmt: skip
            axes.set_yticks(
                [-y for y in range(len(rows))],
                [f"{n}, {_shots(s)}" for s, n in rows],
            )
            axes.set_xlabel(f"points over {against}")
            axes.set_title(name, fontsize=11)
        return file_svg(figure, f"Paired differences to {against}; the table has the figures")


def _bars(axes: Axes, xs: list[float], values: Sequence[Interval], look: Style) -> None:
    axes.errorbar(
        xs,
        [100 * v.value for v in values],
        yerr=[
            [100 * max(0.0, v.value - v.low) for v in values],
            [100 * max(0.0, v.high - v.value) for v in values],
        ],
        color=learner_colour(look.colour), marker=look.marker, markersize=6,
        linewidth=1.5, elinewidth=1.1, capsize=2.5, zorder=2,
    )  # fmt: skip


def _line(
    axes: Axes, xs: list[float], values: Sequence[Interval | None], look: Style, dash: str
) -> None:
    ys = [math.nan if v is None else 100 * v.value for v in values]
    axes.plot(xs, ys, color=learner_colour(look.colour), linestyle=dash, linewidth=1.3, zorder=1)


def _legend(figure: Any, looks: Mapping[str, Style], ways: Sequence[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=learner_colour(look.colour), marker=look.marker, label=name)
        for name, look in looks.items()
    ]
    marks += [Line2D([], [], color=ink(), linestyle=dash, label=name) for dash, name in ways]
    figure.legend(
        handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )  # fmt: skip


def gain_table(found: Sequence[Point], what: str) -> list[str]:
    """Return a Markdown table, a row a point."""
    heads = [
        "learner", what, "accuracy", "over the best without meta-training", "over itself untrained",
        "labels by lot",
    ]  # fmt: skip
    several = any(len(p.trainings) > 1 for p in found)
    heads += ["each training"] if several else []
    lines = []
    for shots in sorted({p.shots for p in found}):
        rows = [[f"{_shots(shots)}: {heads[0]}", *heads[1:]], ["---"] * len(heads)]
        for p in (p for p in found if p.shots == shots):
            cells = [
                p.learner,
                f"{p.x:g}",
                plus_minus(p.accuracy),
                f"{gain(p.over_floor)} ({p.floor})",
                "" if p.over_itself is None else gain(p.over_itself),
                "" if p.control is None else plus_minus(p.control),
            ]
            if several:
                cells.append(", ".join(f"{100 * a:.1f}" for a in p.trainings))
            rows.append(cells)
        lines += [*(f"| {' | '.join(cells)} |" for cells in rows), ""]
    return lines


def plus_minus(one: Interval) -> str:
    """Write a share in percent with half its interval's width.

    >>> plus_minus(Interval(0.5, 0.45, 0.55))
    '50.0 ±5.0'
    """
    return f"{100 * one.value:.1f} ±{100 * one.half:.1f}"


def gain(one: Interval) -> str:
    """Write a difference in points with its interval.

    >>> gain(Interval(0.125, 0.1, 0.15))
    '+12.5 (+10.0 to +15.0)'
    """
    return f"{points(one.value)} ({points(one.low)} to {points(one.high)})"


def verdicts(found: Sequence[Point], what: str) -> list[str]:
    """Return Markdown lines: from where on each learner pays, and what the control says."""
    lines = []
    for learner, shots in dict.fromkeys((p.learner, p.shots) for p in found):
        own = [p for p in found if (p.learner, p.shots) == (learner, shots) and p.x != UNTRAINED]
        since, last = pays_from(found, learner, shots), max(own, key=lambda p: p.x)
        best = max(own, key=lambda p: p.over_floor.value)
        start = "never clearly pays" if since is None else f"pays from {since:g} on ({what})"
        most = "" if best is last else f"; most at {best.x:g}: {gain(best.over_floor)}"
        lines.append(
            f"- `{learner}`, {_shots(shots)}: {start};"
            f" at {last.x:g}: {gain(last.over_floor)}{most}."
        )
    lots = [(p, p.control) for p in found if p.control is not None]
    if lots:
        p, lot = max(lots, key=lambda pair: abs(pair[1].value - pair[0].chance))
        off = sum(not c.low <= p.chance <= c.high for p, c in lots)
        lines.append(
            f"- Labels by lot: of {len(lots)} points the farthest from chance is {plus_minus(lot)}"
            f" (chance {100 * p.chance:.1f}); {off} of their intervals leave"
            " chance out, where one in twenty would by accident."
        )
    return [*lines, ""]


def _shots(number: int) -> str:
    return f"{number} shot{'s' * (number != 1)}"

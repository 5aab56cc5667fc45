"""The report's plots as files of their own, SVG and PNG, for papers and slides."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.evaluation.summary import Summary
from icl.evaluation.transfer import Transfer
from icl.reporting.numbers import metric_title
from icl.reporting.palette import Style, styles
from icl.reporting.plots import Plot, accuracy_by_cost, accuracy_by_shots, reliability
from icl.reporting.svg import drawing, ink, learner_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "plots"
_DPI = 200
_MARK: Mapping[str, Any] = {"markersize": 6.5, "linestyle": "none"}


def write_plots(folder: Path, summary: Summary) -> list[Path]:
    """Write every plot of a run as SVG and PNG into its folder ``plots``; return their paths.

    Beside the page's plots: heat maps of accuracy by language and learner, and of the best learner
    from language to language. Legends stand below; their letters are those that DejaVu Sans has
    (in an SVG, those that the reader's fonts have).

    Raises:
        IclError: a file cannot be written.
    """
    target = Path(folder) / FOLDER
    written = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for stem, title, draw in _plots(summary, styles(summary.learners)):
            with drawing(paper=True), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing")
                figure = draw()
                figure.suptitle(title, fontsize=11, color=ink()).set_parse_math(False)
                for form, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                    path = target / f"{stem}.{form}"
                    figure.savefig(
                        path, dpi=_DPI, bbox_inches="tight", facecolor="white", metadata=metadata
                    )
                    written.append(path)
    except OSError as error:
        raise IclError(f"Cannot write {target}: {error.strerror or error}.") from error
    return written


def _plots(
    summary: Summary, looks: Mapping[str, Style]
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Yield each plot's file name, its title and what draws it."""
    ranked = [row.learner for row in summary.overall.rows]
    first = ranked[0]

    def whole(draw: Callable[..., Plot], *arguments: Any) -> Figure:
        figure = draw(*arguments).figure
        _legend(figure, ranked, looks, summary)
        return figure

    for name, setting in _named(summary.settings):
        of_setting = partial(whole, accuracy_by_shots, summary, setting, looks)
        yield f"shots-{name}", setting, of_setting
        yield f"languages-{name}", setting, partial(_languages, summary, setting, ranked)
    for cost, what in (("seconds", "time"), ("computed_tokens", "tokens")):
        yield f"cost-{what}", "", partial(whole, accuracy_by_cost, summary.overall, cost, looks)
    if summary.transfer is not None:
        yield "transfer", first, partial(_transfer, summary, summary.transfer, first)
    if first in summary.calibration:
        found = summary.calibration[first]
        yield "reliability", first, lambda: reliability(found, looks[first]).figure


def _languages(summary: Summary, setting: str, ranked: Sequence[str]) -> Figure:
    lines = [line for line in summary.languages if line.setting == setting]
    rows = [[line.accuracy[name] for name in ranked] for line in lines]
    return _heat(summary, rows, [line.language for line in lines], ranked)


def _transfer(summary: Summary, found: Transfer, learner: str) -> Figure:
    cells = found.accuracy[learner]
    rows = [[cells.get((s, q), float("nan")) for q in found.queries] for s in found.supports]
    figure = _heat(summary, rows, found.supports, found.queries)
    figure.axes[0].set(ylabel="Language of the examples", xlabel="Language of the queries")
    return figure


def _heat(
    summary: Summary, rows: list[list[float]], names: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Draw a heat map from chance (or 0) to 1; cividis reads the same without colour vision."""
    from matplotlib.figure import Figure

    longest = max(map(len, columns))
    figure = Figure(
        figsize=(2 + 0.42 * len(columns), 0.8 + 0.34 * len(rows) + 0.09 * longest),
        layout="constrained",
    )
    axes = figure.add_subplot()
    least = summary.overall.chance if summary.overall.chance < 1 else 0.0
    axes.imshow(rows, cmap="cividis", vmin=least, vmax=1.0, aspect="auto")
    for y, row in enumerate(rows):
        for x, share in enumerate(row):
            if not math.isnan(share):  # a cell that there is
                light = (share - least) / (1 - least) < 0.55
                colour = "white" if light else "black"
                axes.text(
                    x, y, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=9
                )
    axes.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.supxlabel(f"{metric_title(summary.metric)} in percent", fontsize=9)
    return figure


def _legend(
    figure: Figure, ranked: Sequence[str], looks: Mapping[str, Style], summary: Summary
) -> None:
    from matplotlib.lines import Line2D

    marks: list[Any] = [
        Line2D([], [], color=learner_colour(look.colour), marker=look.marker, **_MARK)
        for look in map(looks.__getitem__, ranked)
    ]
    legend = figure.legend(
        marks,
        ["x" for _ in ranked],  # names may begin with a blank or _, which matplotlib hides
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3 if len(ranked) > 3 else len(ranked),
        frameon=False,
        fontsize=9,
    )
    for text, name in zip(legend.get_texts(), ranked, strict=True):
        text.set_parse_math(False)
        model = summary.models.get(name)
        text.set_text(name if model is None else f"{name} ({model.label})")


def _named(settings: Sequence[str]) -> list[tuple[str, str]]:
    """Give each setting a name for files, no two the same."""
    found: dict[str, str] = {}
    for setting in settings:
        plain = re.sub(r"[^\w+-]+", "-", setting).strip("-")[:60] or "setting"
        name, number = plain, 2
        while name.lower() in {n.lower() for n in found}:
            name, number = f"{plain}-{number}", number + 1
        found[name] = setting
    return list(found.items())

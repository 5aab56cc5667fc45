"""The leader boards and all pairs of learners as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from icl.errors import IclError, did_you_mean
from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary
from icl.reporting.numbers import board_title, markdown, metric_title, p_value, percent, points

if TYPE_CHECKING:
    from icl.evaluation.pairs import Pair

FILES = {"csv": "table.csv", "md": "table.md", "latex": "table.tex"}
PAIRS = "pairs.csv"
NONE = "–"  # stands where a learner needs no model
CONTROL = "Control"  # accuracy where the examples' labels were shuffled


def table(summary: Summary, form: str) -> str:
    """Return all boards of a summary as one text.

    ``csv`` has one line for each board and learner, with shares and counts in full; ``md`` and
    ``latex`` have one table a board with rounded figures. LaTeX needs the package ``booktabs``.

    Raises:
        IclError: an unknown format.
    """
    _check(form)
    parts = summary.boards if len(summary.boards) > 1 else ()
    boards = (summary.overall, *summary.further, *parts)
    several = bool(summary.models)
    if form == "csv":
        here = {"model": several, "control": summary.overall.controlled}
        columns = [name for name in _COLUMNS if here.get(name, True)]
        figures = (_figures(columns, board, row) for board in boards for row in board.rows)
        return _csv(columns, figures)
    write = partial(_markdown if form == "md" else _latex, several=several)
    return "\n\n".join(map(write, boards)) + "\n"


def pair_table(pairs: Sequence[Pair], form: str) -> str:
    """Return all pairs of learners as one table: in full as ``csv``, rounded as ``md``, ``latex``.

    Raises:
        IclError: an unknown format.
    """
    from icl.evaluation.pairs import Pair

    _check(form)
    if form == "csv":
        return _csv([f.name for f in fields(Pair)], map(astuple, pairs))
    rows = [pair_cells(pair) for pair in pairs]
    if form == "md":
        return "\n".join(_piped(PAIR_HEADS, [map(markdown, row) for row in rows], words=2)) + "\n"
    return "\n".join(_tabular(map(_tex, PAIR_HEADS), rows, words=2)) + "\n"


def _check(form: str) -> None:
    if form not in FILES:
        raise IclError(f"There is no table format {form!r}." + did_you_mean(form, FILES))


def pair_cells(pair: Pair) -> list[str]:
    """Return a pair's figures as people read them, under `PAIR_HEADS`."""
    return [
        pair.first,
        pair.second,
        points(pair.difference),
        f"{points(pair.low)} to {points(pair.high)}",
        f"{points(pair.low_bootstrap)} to {points(pair.high_bootstrap)}",
        p_value(pair.p_holm),
        p_value(pair.p_permutation),
        "" if pair.p_mcnemar is None else p_value(pair.p_mcnemar),
        f"{pair.d_z:.2f}",
    ]


PAIR_HEADS = (
    "First", "Second", "Difference", "95 % interval", "Bootstrap", "p (Holm)", "Permutation",
    "McNemar", "d_z",
)  # fmt: skip

_COLUMNS = (
    "setting", "shots", "metric", "episodes", "draws", "queries", "chance", "learner", "model",
    "method", "value", "low", "high", "difference", "difference_low", "difference_high", "p",
    "seconds", "prompt_tokens", "computed_tokens", "peak_memory_mb", "trained_parameters",
    "forward_flops", "backward_flops", "shared", "control",
)  # fmt: skip


def _figures(columns: Iterable[str], board: Board, row: Row) -> list[Any]:
    cells = {
        "setting": "all" if board.setting is None else board.setting,
        "shots": "all" if board.shots is None else board.shots,
        "value": row.accuracy,
    }
    return [
        cells[name] if name in cells else getattr(board if hasattr(board, name) else row, name)
        for name in columns
    ]


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def _markdown(board: Board, several: bool) -> str:
    words = ("Learner", "Model") if several else ("Learner",)
    heads = (*words, metric_title(board.metric), "95 % interval", "To the best", "p", *_last(board))
    rows = [[*map(markdown, _words(row, several)), *row_cells(board, row)] for row in board.rows]
    piped = _piped(heads, rows, words=len(words))
    return "\n".join([f"**{markdown(board_title(board))}**", "", *piped])


def _latex(board: Board, several: bool) -> str:
    name = _tex(metric_title(board.metric))
    words = ("Learner", "Model") if several else ("Learner",)
    heads = (*words, name, r"95\,\% interval", "To the best", "$p$", *_last(board))
    rows = [[*_words(row, several), *row_cells(board, row)] for row in board.rows]
    tabular = _tabular(heads, rows, words=len(words))
    return "\n".join(["% " + " ".join(board_title(board).split()), *tabular])


def _words(row: Row, several: bool) -> list[str]:
    """Return who stands in a row: the learner, and its model where there are several."""
    return [row.learner, row.model or NONE] if several else [row.learner]


def _piped(heads: Sequence[str], rows: Iterable[Iterable[str]], words: int = 1) -> list[str]:
    """Return the lines of a Markdown table whose first columns hold words, the others figures."""
    rule = [*["---"] * words, *["---:"] * (len(heads) - words)]
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]


def _tabular(heads: Iterable[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """Return the lines of a LaTeX table, likewise; the heads are LaTeX, the rows are not yet."""
    first, *body = (" & ".join(row) + r" \\" for row in (heads, *(map(_tex, r) for r in rows)))
    columns = "l" * words + "r" * (first.count(" & ") + 1 - words)
    begin = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", first, r"\midrule"]
    return [*begin, *body, r"\bottomrule", r"\end{tabular}"]


def row_cells(board: Board, row: Row) -> list[str]:
    """Return a learner's figures as people read them: value, interval, distance to the best, p."""
    best = row is board.best
    return [
        percent(row.accuracy) + (" °" if at_chance(board, row) else ""),
        f"{100 * row.low:.1f}–{100 * row.high:.1f}",
        "best" if best else points(row.difference),
        "" if best else p_value(row.p),
        *(() if row.control is None else (percent(row.control),)),
    ]


def _last(board: Board) -> tuple[str, ...]:
    """Return the heading of the column that only some boards have."""
    return (CONTROL,) if board.controlled else ()


def at_chance(board: Board, row: Row) -> bool:
    """Tell whether a learner's interval reaches chance, where there is a chance."""
    return board.chance > 0 and not row.above_chance


_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\^{}", "~": r"\~{}", "–": "--", "−": "$-$", "<": "$<$",
    ">": "$>$", "°": r"$^\circ$", "\N{NO-BREAK SPACE}": r"\,",
})  # fmt: skip


def _tex(text: str) -> str:
    return text.translate(_TEX)

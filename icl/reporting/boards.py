"""The leader boards and all pairs of learners as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Literal, get_args

from icl.errors import IclError, did_you_mean
from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary
from icl.reporting.numbers import board_title, markdown, metric_title, p_value, percent, points

if TYPE_CHECKING:
    from icl.evaluation.pairs import Pair

TableFormat = Literal["csv", "md", "latex"]
FILES: dict[TableFormat, str] = {"csv": "table.csv", "md": "table.md", "latex": "table.tex"}
PAIRS = "pairs.csv"


def table(summary: Summary, form: str) -> str:
    """Return all boards of a summary as one text.

    ``csv`` has one line for each board and learner, with shares and counts in full; ``md`` and
    ``latex`` have one table a board with rounded figures. LaTeX needs the package ``booktabs``.

    Raises:
        IclError: an unknown format.
    """
    writers: dict[str, Callable[[Sequence[Board]], str]] = {
        "csv": _csv,
        "md": _markdown,
        "latex": _latex,
    }
    if form not in writers:
        raise IclError(f"There is no table format {form!r}." + did_you_mean(form, writers))
    assert set(writers) == set(get_args(TableFormat))
    parts = summary.boards if len(summary.boards) > 1 else ()
    return writers[form]((summary.overall, *summary.further, *parts))


def pair_table(pairs: Sequence[Pair], form: str) -> str:
    """Return all pairs of learners as one table: in full as ``csv``, rounded as ``md``, ``latex``.

    Raises:
        IclError: an unknown format.
    """
    from icl.evaluation.pairs import Pair

    if form not in get_args(TableFormat):
        raise IclError(
            f"There is no table format {form!r}." + did_you_mean(form, get_args(TableFormat))
        )
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([f.name for f in fields(Pair)])
        writer.writerows(astuple(pair) for pair in pairs)
        return text.getvalue()
    rows = [pair_cells(pair) for pair in pairs]
    if form == "md":
        lines = [f"| {' | '.join(PAIR_HEADS)} |", "| --- | --- |" + " ---: |" * 7]
        lines += [f"| {' | '.join(map(markdown, row))} |" for row in rows]
        return "\n".join(lines) + "\n"
    head = " & ".join(map(_tex, PAIR_HEADS)) + r" \\"
    body = [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    lines = [r"\begin{tabular}{llrrrrrrr}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


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
    "setting", "shots", "metric", "episodes", "draws", "queries", "chance", "learner", "method",
    "value", "low", "high", "difference", "difference_low", "difference_high", "p", "seconds",
    "prompt_tokens", "computed_tokens", "peak_memory_mb", "trained_parameters", "forward_flops",
    "backward_flops", "shared",
)  # fmt: skip


def _csv(boards: Sequence[Board]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for board in boards:
        for row in board.rows:
            cells = {
                "setting": "all" if board.setting is None else board.setting,
                "shots": "all" if board.shots is None else board.shots,
                "value": row.accuracy,
            }
            writer.writerow(
                [
                    cells[name]
                    if name in cells
                    else getattr(board if hasattr(board, name) else row, name)
                    for name in _COLUMNS
                ]
            )
    return text.getvalue()


def _markdown(boards: Sequence[Board]) -> str:
    found = []
    for board in boards:
        name = metric_title(board.metric)
        lines = [
            f"**{markdown(board_title(board))}**",
            "",
            f"| Learner | {name} | 95 % interval | To the best | p |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {' | '.join([markdown(row.learner), *_cells(board, row)])} |"
                for row in board.rows
            ),
        ]
        found.append("\n".join(lines))
    return "\n\n".join(found) + "\n"


def _latex(boards: Sequence[Board]) -> str:
    found = []
    for board in boards:
        lines = [
            "% " + " ".join(board_title(board).split()),
            r"\begin{tabular}{lrrrr}",
            r"\toprule",
            f"Learner & {_tex(metric_title(board.metric))} & "
            r"95\,\% interval & To the best & $p$ \\",
            r"\midrule",
        ]
        for row in board.rows:
            cells = [_tex(row.learner), *map(_tex, _cells(board, row))]
            lines.append(" & ".join(cells) + r" \\")
        found.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(found) + "\n"


def _cells(board: Board, row: Row) -> list[str]:
    best = row is board.best
    mark = "" if row.above_chance or not board.chance else " °"
    return [
        percent(row.accuracy) + mark,
        f"{100 * row.low:.1f}–{100 * row.high:.1f}",
        "best" if best else points(row.difference),
        "" if best else p_value(row.p),
    ]


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\^{}", "~": r"\~{}", "–": "--", "−": "$-$", "<": "$<$",
    ">": "$>$", "°": r"$^\circ$", "\N{NO-BREAK SPACE}": r"\,",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split(" ")))

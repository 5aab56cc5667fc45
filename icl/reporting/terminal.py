"""The leader board in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary, summarise
from icl.reporting.boards import PAIR_HEADS, pair_cells
from icl.reporting.numbers import (
    board_title,
    count,
    duration,
    metric_name,
    metric_title,
    p_value,
    percent,
    points,
)
from icl.reporting.verdict import DAGGER, notes, verdict
from icl.runs.record import EpisodeRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from icl.evaluation.pairs import Pair


def print_table(
    records: Iterable[EpisodeRecord],
    console: Console,
    meta_training: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Print verdict, leader boards and meta-training costs; raises `IclError` as `summarise`."""
    from rich.text import Text

    summary = summarise(records, meta_training)
    # `Text` everywhere: a learner may be named "[red]", which rich would take for markup.
    console.print(Text(verdict(summary), style="bold"))
    for note in notes(summary):
        console.print(Text(note, style="yellow"))
    console.print()
    console.print(_board(summary, summary.overall))
    for board in summary.further:
        console.print()
        console.print(_board(summary, board))
    if len(summary.boards) > 1:
        for setting in summary.settings:
            console.print()
            console.print(_by_shots(summary, setting))
    if summary.meta_training:
        console.print()
        console.print(_meta_training(summary))
    console.print()
    console.print(
        Text(
            "Intervals: 95 %, clustered by draw and item. To best: difference in points, paired "
            "on identical episodes, with p Holm-corrected over all pairs. Time and tokens computed "
            "are an episode's.",
            style="dim",
        )
    )


def print_pairs(pairs: Sequence[Pair], console: Console) -> None:
    """Print every pair of learners with every test."""
    from rich.text import Text

    table = _table("All pairs")
    table.columns[0].header = PAIR_HEADS[0]
    table.add_column(PAIR_HEADS[1], overflow="fold", min_width=8)
    for heading in PAIR_HEADS[2:]:
        table.add_column(heading, justify="right")
    for pair in pairs:
        table.add_row(*map(Text, pair_cells(pair)))
    console.print(table)
    console.print(
        Text(
            "95 % interval and p: clustered by draw and item, p Holm-corrected over all pairs; "
            "the ones to report. Bootstrap and permutation redraw whole draws and are blind to "
            "items in several of them; McNemar's is blind to all clustering, right for one shared "
            "test set.",
            style="dim",
        )
    )


def _board(summary: Summary, board: Board) -> Table:
    from rich.text import Text

    table = _table(board_title(board))
    for heading in (metric_title(board.metric), "95 % interval", "To best", "p", "Time", "Tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in board.rows:
        best = row is board.best
        cells = (
            percent(row.accuracy) + (" °" if _at_chance(board, row) else ""),
            f"{100 * row.low:.1f}–{100 * row.high:.1f}",
            "best" if best else points(row.difference),
            "" if best else p_value(row.p),
            duration(row.seconds),
            count(row.computed_tokens),
        )
        table.add_row(
            Text(_marked(summary, row.learner)), *map(Text, cells), style="bold" if best else ""
        )
    if any(_at_chance(board, row) for row in board.rows):
        table.caption = Text("° not above chance: the interval reaches it")
    return table


def _at_chance(board: Board, row: Row) -> bool:
    return board.chance > 0 and not row.above_chance


def _by_shots(summary: Summary, setting: str) -> Table:
    """Accuracies of one setting, a column a number of shots, ± half the interval's width."""
    from rich.text import Text

    boards = [board for board in summary.boards if board.setting == setting]
    table = _table(f"{setting}: {metric_name(summary.metric)} in %")
    for board in boards:
        heading = f"{board.shots} shot{'s' * (board.shots != 1)}"
        table.add_column(heading, justify="right", no_wrap=True)
    for best in summary.overall.rows:
        rows = [board.row(best.learner) for board in boards]
        cells = (f"{100 * r.accuracy:.1f} ±{50 * (r.high - r.low):.1f}" for r in rows)
        table.add_row(Text(_marked(summary, best.learner)), *map(Text, cells))
    return table


def _marked(summary: Summary, learner: str) -> str:
    """Return a learner's name with a dagger where it is transductive."""
    return f"{learner} {DAGGER}" if learner in summary.transductive else learner


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("Learner", overflow="fold", min_width=8)
    return table


def _meta_training(summary: Summary) -> Table:
    from rich.text import Text

    table = _table("Meta-training (spent once)")
    for heading in ("Time", "Tokens", "Steps"):
        table.add_column(heading, justify="right")
    for name, spent in summary.meta_training.items():
        cells = (duration(spent.seconds), count(spent.tokens), count(spent.steps))
        table.add_row(Text(name), *map(Text, cells))
    return table

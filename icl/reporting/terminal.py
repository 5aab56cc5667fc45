"""The leader board in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl.evaluation.board import Board
from icl.evaluation.summary import Summary, summarise
from icl.reporting.boards import CONTROL, NONE, PAIR_HEADS, at_chance, pair_cells, row_cells
from icl.reporting.effort import EFFORT_HEADS, effort, effort_rows
from icl.reporting.numbers import board_title, count, duration, metric_name, metric_title
from icl.reporting.verdict import DAGGER, models_told, notes, verdict
from icl.runs.record import EpisodeRecord
from icl.runs.used_models import UsedModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from icl.evaluation.pairs import Pair
    from icl.runs.trials import Tuning


def print_table(
    records: Iterable[EpisodeRecord],
    console: Console,
    meta_training: Mapping[str, Mapping[str, float]] | None = None,
    models: Mapping[str, UsedModel] | None = None,
    tuning: Tuning | None = None,
    said: str | None = None,
) -> None:
    """Print verdict, leader boards, costs and effort; raises `IclError` as `summarise`.

    Args:
        records: of the run.
        console: where to print.
        meta_training: seconds, tokens and steps by learner.
        models: by learner, the model that it was on.
        tuning: how the learners' values were chosen; None where they ran as configured.
        said: what is said of the effort instead, where records are of several runs.
    """
    from rich.text import Text

    summary = summarise(records, meta_training, models=models)
    # `Text` everywhere: a learner may be named "[red]", which rich would take for markup.
    console.print(Text(verdict(summary), style="bold"))
    for note in notes(summary):
        console.print(Text(note, style="yellow"))
    if told := models_told(summary):
        console.print(Text(told))
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
    if tuning is not None:
        console.print()
        console.print(_tuning(tuning))
    console.print()
    console.print(Text(said or effort(tuning), style="dim"))
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

    words = dict.fromkeys(PAIR_HEADS[:2], 8)
    table = titled("All pairs", words, PAIR_HEADS[2:], no_wrap=False)
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

    name = metric_title(board.metric)
    # A terminal has no room for both; the page has all costs.
    last = (CONTROL, "Time") if board.controlled else ("Time", "Tokens")
    figures = (name, "95 % interval", "To best", "p", *last)
    words = {"Learner": 8, **({"Model": 5} if summary.models else {})}
    table = titled(board_title(board), words, figures)
    for row in board.rows:
        tokens = () if board.controlled else (count(row.computed_tokens),)
        spent = (duration(row.seconds), *tokens)
        on = (row.model or NONE,) if summary.models else ()
        cells = (_marked(summary, row.learner), *on, *row_cells(board, row), *spent)
        table.add_row(*map(Text, cells), style="bold" if row is board.best else "")
    if any(at_chance(board, row) for row in board.rows):
        table.caption = Text("° not above chance: the interval reaches it")
    return table


def _by_shots(summary: Summary, setting: str) -> Table:
    """Accuracies of one setting, a column a number of shots, ± half the interval's width."""
    from rich.text import Text

    boards = [board for board in summary.boards if board.setting == setting]
    shots = [f"{board.shots} shot{'s' * (board.shots != 1)}" for board in boards]
    table = titled(f"{setting}: {metric_name(summary.metric)} in %", {"Learner": 8}, shots)
    for best in summary.overall.rows:
        rows = [board.row(best.learner) for board in boards]
        cells = (f"{100 * r.accuracy:.1f} ±{50 * (r.high - r.low):.1f}" for r in rows)
        table.add_row(Text(_marked(summary, best.learner)), *map(Text, cells))
    return table


def _marked(summary: Summary, learner: str) -> str:
    """Return a learner's name with a dagger where it is transductive."""
    return f"{learner} {DAGGER}" if learner in summary.transductive else learner


def titled(
    title: str | None,
    words: Mapping[str, int],
    figures: Iterable[str] = (),
    *,
    no_wrap: bool = True,
) -> Table:
    """Return a table without rows.

    Args:
        title: stands above it.
        words: its first columns, which fold on a narrow terminal down to so many letters.
        figures: the columns after them, on the right.
        no_wrap: whether figures are cut short rather than broken on a narrow terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=None if title is None else Text(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading, least in words.items():
        table.add_column(heading, overflow="fold", min_width=least)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=no_wrap)
    return table


def _meta_training(summary: Summary) -> Table:
    from rich.text import Text

    figures = ("Time", "Tokens", "Steps")
    words = {"Learner": 8, **({"Model": 5} if summary.models else {})}
    table = titled("Meta-training (spent once)", words, figures, no_wrap=False)
    for name, spent in summary.meta_training.items():
        on = [summary.models[name].label if name in summary.models else NONE]
        cells = (duration(spent.seconds), count(spent.tokens), count(spent.steps))
        table.add_row(Text(name), *map(Text, on if summary.models else ()), *map(Text, cells))
    return table


def _tuning(tuning: Tuning) -> Table:
    from rich.text import Text

    words = {"Learner": 8, "Chosen": 12}
    table = titled("Tuning (spent once)", words, EFFORT_HEADS, no_wrap=False)
    for cells in effort_rows(tuning):
        table.add_row(*map(Text, cells))
    return table

"""What a run says, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from icl.evaluation.board import Board
from icl.evaluation.summary import Summary
from icl.reporting.numbers import NBSP, episodes_of, metric_name, percent, span
from icl.runs.record import ACCURACY

SIGNIFICANT = 0.05
DAGGER = "†"  # marks transductive learners
_WORTH_TELLING = 0.05  # above chance: what no sampling of balanced queries makes of many episodes


def verdict(summary: Summary) -> str:
    """Return the one sentence that a reader should take home: the best, its lead, its certainty."""
    board = summary.overall
    best = board.best
    figures = f"{percent(best.accuracy)} (95{NBSP}% interval {span(best.low, best.high)})"
    if board.metric != ACCURACY:
        return _by_metric(board, figures)
    if len(board.rows) == 1:
        return (
            f"{best.learner} labels {figures} of the queries right, with chance at "
            f"{percent(board.chance)}; there is no other learner to compare it with."
        )
    if not any(row.above_chance for row in board.rows):
        return (
            f"No learner is clearly above chance ({percent(board.chance)}) on these "
            f"{_these(board)}; the highest is {best.learner} with {figures}."
        )
    return f"{best.learner} learns best: {figures} of the queries right, {_lead(board)}."


def _by_metric(board: Board, figures: str) -> str:
    """Return the sentence on answers of another kind than one label out of several."""
    best, name = board.best, metric_name(board.metric)
    if len(board.rows) == 1:
        guessing = f", with chance at {percent(board.chance)}" if board.chance else ""
        return (
            f"{best.learner}'s answers have {name} {figures}{guessing}; there is no other learner"
            " to compare it with."
        )
    if best.accuracy == 0:
        return f"No learner's answers have any {name} on these {_these(board)}."
    if board.chance and not any(row.above_chance for row in board.rows):
        return (
            f"No learner is clearly above chance ({percent(board.chance)}) on these "
            f"{_these(board)}; the highest is {best.learner} with {name} {figures}."
        )
    return f"{best.learner} answers best: {name} {figures}, {_lead(board)}."


def _these(board: Board) -> str:
    return episodes_of(board.episodes, board.draws)


def _lead(board: Board) -> str:
    others = board.rows[1:]
    open_ = [row.learner for row in others if row.p >= SIGNIFICANT]
    if not open_:
        return (
            "clearly more than "
            + (others[0].learner if len(others) == 1 else f"each of the {len(others)} others")
            + f" on the same {_these(board)}"
        )
    if len(open_) == len(others):
        who = open_[0] if len(open_) == 1 else "any other learner"
        return f"but its lead over {who} may be luck on these {_these(board)}"
    return f"clearly more than {_rest(len(others) - len(open_))}, but {_may_be_luck(open_)}"


def _rest(number: int) -> str:
    return "one other learner" if number == 1 else f"{number} other learners"


def _may_be_luck(names: Sequence[str]) -> str:
    shown = (
        f"{', '.join(names[:-1])} and {names[-1]}"
        if 1 < len(names) <= 3
        else names[0]
        if len(names) == 1
        else f"{names[0]} and {len(names) - 1} more"
    )
    return f"its lead over {shown} may be luck"


def notes(summary: Summary) -> list[str]:
    """Return what a reader must know before trusting the figures; empty for a finished run."""
    return [
        *_transductive(summary), *_unbalanced(summary), *_inexact(summary), *_changed(summary),
        *_unfinished(summary),
    ]  # fmt: skip


def _changed(summary: Summary) -> list[str]:
    episodes = sum(board.episodes for board in summary.boards) - summary.overall.episodes
    if not episodes:
        return []
    return [
        f"{episodes} further episodes have changed labels: they stand in tables of their own and"
        " count in no figure over all episodes."
    ]


def _transductive(summary: Summary) -> list[str]:
    if not summary.transductive:
        return []
    sees = "sees" if len(summary.transductive) == 1 else "see"
    return [
        f"{DAGGER} {', '.join(summary.transductive)} {sees} all queries of an episode at once "
        "(transductive), an easier question than the other learners answer"
        + (
            ", the more so as these episodes ask for all of their labels equally often"
            " (`composition: {queries: natural}` draws queries as they come)."
            if summary.balanced
            else "."
        )
    ]


def _unbalanced(summary: Summary) -> list[str]:
    common = summary.commonest
    if common is None or common < summary.overall.chance + _WORTH_TELLING:
        return []
    return [
        "Queries are not balanced: always giving the most frequent label is right in"
        f" {percent(common)}, where guessing evenly is in {percent(summary.overall.chance)}."
    ]


def _inexact(summary: Summary) -> list[str]:
    return [
        f"{learner}'s label scores are not all exact, as the server did not give them: "
        + ", ".join(f"{way} {percent(share)}" for way, share in ways.items())
        + " (see docs/servers.md)."
        for learner, ways in summary.inexact.items()
    ]


def _unfinished(summary: Summary) -> list[str]:
    if not summary.left_out:
        return []
    return [
        f"Unfinished run: learners are compared on the {summary.overall.episodes} episodes that "
        f"all of them have done; {sum(summary.left_out.values())} further records wait until the "
        "others catch up."
    ]

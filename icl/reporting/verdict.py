"""What a run says, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary
from icl.reporting.alarm_lines import alarm_lines
from icl.reporting.numbers import NBSP, duration, episodes_of, metric_name, percent, span
from icl.runs.record import ACCURACY

SIGNIFICANT = 0.05
DAGGER = "†"  # marks transductive learners
_WORTH_TELLING = 0.05  # above chance: what no sampling of balanced queries makes of many episodes


def verdict(summary: Summary) -> str:
    """Return the one sentence that a reader should take home: the best, its lead, its certainty."""
    board, best = summary.overall, summary.overall.best
    name = f"{best.learner} on {best.model}" if best.model else best.learner
    labels = board.metric == ACCURACY
    figures = f"{percent(best.accuracy)} (95{NBSP}% interval {span(best.low, best.high)})"
    named = figures if labels else f"{metric_name(board.metric)} {figures}"
    right = f"{figures} of the queries right"
    if len(board.rows) == 1:
        found = f" labels {right}" if labels else f"'s answers have {named}"
        guessing = f", with chance at {percent(board.chance)}" if board.chance else ""
        return f"{name}{found}{guessing}; there is no other learner to compare it with."
    if best.accuracy == 0 and not labels:
        return (
            f"No learner's answers have any {metric_name(board.metric)} on these {_these(board)}."
        )
    if board.chance and not any(row.above_chance for row in board.rows):
        return (
            f"No learner is clearly above chance ({percent(board.chance)}) on these "
            f"{_these(board)}; the highest is {name} with {named}."
        )
    won = f"learns best: {right}" if labels else f"answers best: {named}"
    if summary.models:
        return f"{name} {won}, {_lead(board)}; it takes {_cost(summary, best)}{_others(summary)}."
    return f"{name} {won}, {_lead(board)}."


def _cost(summary: Summary, row: Row) -> str:
    """Say what a learner takes, by which learners on other models can be told from it."""
    each = f"{duration(row.seconds)} an episode"
    trained = summary.meta_training.get(row.learner)
    once = "" if trained is None else f" after {duration(trained.seconds)} of meta-training"
    return each + once


def _others(summary: Summary) -> str:
    """Name the best learner on each of the other models, with what it takes."""
    best: dict[str, Row] = {}
    for row in summary.overall.rows:
        if row.model and row.model != summary.overall.best.model:
            best.setdefault(row.model, row)
    return "".join(
        f"; the best on {model} is {row.learner}, with {percent(row.accuracy)} for"
        f" {_cost(summary, row)}"
        for model, row in best.items()
    )


def models_told(summary: Summary) -> str:
    """Say what the models' labels stand for; empty where there is one model, or nothing to say."""
    names = {model.label: model.name for model in summary.models.values()}
    told = [f"{label} is {name}" for label, name in names.items() if name != label]
    return f"Models: {', '.join(told)}." if told else ""


def _but(board: Board) -> str:
    """Say what the control is, where there is one."""
    told = " but the control: accuracy where the examples' labels were shuffled"
    return told if board.controlled else ""


def _these(board: Board) -> str:
    return episodes_of(board.episodes, board.draws)


def _lead(board: Board) -> str:
    others = board.rows[1:]
    open_ = [row.learner for row in others if row.p >= SIGNIFICANT]
    if not open_:
        whom = others[0].learner if len(others) == 1 else f"each of the {len(others)} others"
        return f"clearly more than {whom} on the same {_these(board)}"
    if len(open_) == len(others):
        who = open_[0] if len(open_) == 1 else "any other learner"
        return f"but its lead over {who} may be luck on these {_these(board)}"
    fewer = len(others) - len(open_)
    some = "one other learner" if fewer == 1 else f"{fewer} other learners"
    several = " and ".join(filter(None, (", ".join(open_[:-1]), open_[-1])))
    who = several if len(open_) <= 3 else f"{open_[0]} and {len(open_) - 1} more"
    return f"clearly more than {some}, but its lead over {who} may be luck"


def notes(summary: Summary) -> list[str]:
    """Return what a reader must know before trusting the figures; empty for a finished run."""
    return list(_notes(summary))


def _notes(summary: Summary) -> Iterator[str]:
    overall, common = summary.overall, summary.commonest
    if summary.transductive:
        sees = "sees" if len(summary.transductive) == 1 else "see"
        evenly = (
            ", the more so as these episodes ask for all of their labels equally often"
            " (`composition: {queries: natural}` draws queries as they come)"
        )
        yield (
            f"{DAGGER} {', '.join(summary.transductive)} {sees} all queries of an episode at once "
            "(transductive), an easier question than the other learners answer"
            f"{evenly if summary.balanced else ''}."
        )
    if common is not None and common >= overall.chance + _WORTH_TELLING:
        yield (
            "Queries are not balanced: always giving the most frequent label is right in"
            f" {percent(common)}, where guessing evenly is in {percent(overall.chance)}."
        )
    for learner, ways in summary.inexact.items():
        told = ", ".join(f"{way} {percent(share)}" for way, share in ways.items())
        yield (
            f"{learner}'s label scores are not all exact, as the server did not give them: {told}"
            " (see docs/servers.md)."
        )
    yield from alarm_lines(summary.alarms)
    changed = sum(board.episodes for board in summary.boards) - overall.episodes
    if changed:
        yield (
            f"{changed} further episodes have changed labels: they stand in tables of their own and"
            f" count in no figure over all episodes{_but(overall)}."
        )
    if summary.left_out:
        yield (
            f"Unfinished run: learners are compared on the {overall.episodes} episodes that "
            f"all of them have done; {sum(summary.left_out.values())} further records wait until "
            "the others catch up."
        )

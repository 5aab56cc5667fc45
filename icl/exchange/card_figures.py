"""The figures of a run in a model card: all its learners, its languages, and what they cost."""

from __future__ import annotations

from pathlib import Path

from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary, summarise
from icl.exchange.trained import Found
from icl.reporting.numbers import markdown
from icl.runs.roster import read_roster
from icl.runs.used_models import used_models


def figures(run: Path, found: Found) -> str:
    """Write a run's figures as Markdown; a sentence where the learner was judged on nothing.

    Args:
        run: the run's folder.
        found: the learner that the card is of.

    Raises:
        IclError: the run's records are damaged.
    """
    from icl.runs.folder import RunFolder

    folder = RunFolder(run)
    rows = read_roster(folder)
    keys = {row["name"]: row["key"] for row in rows if row["key"]}
    records = folder.records(keys, list(folder.episodes().fingerprints()))
    if found.name not in {record.learner for record in records}:
        return "The run has judged it on no episode."
    summary = summarise(records, models=used_models(rows, {}))
    boards = summary.boards if len(summary.boards) > 1 else (summary.overall,)
    parts = [
        "\n".join(
            [
                f"{summary.metric.capitalize()} on episodes of the split"
                f" `{found.config.episodes.split}`, mean and 95 % interval, clustered by draw and"
                " item; all learners were judged on the same episodes.\n",
                "| setting | shots | episodes | chance | this model | best other |",
                "| --- | --- | --- | --- | --- | --- |",
                *(_row(board, found.name) for board in boards),
            ]
        ),
        "All learners of the run, the best first, by setting and shots:",
        _everyone(summary, boards, found.name),
    ]
    if len({each.language for each in summary.languages}) > 1:
        parts += ["This model by the language of the queries:", _languages(summary, found.name)]
    return "\n\n".join(parts)


def _row(board: Board, name: str) -> str:
    own = board.row(name)
    others = [row for row in board.rows if row.learner != name]
    best = f"{_figure(others[0])} ({markdown(_called(others[0]))})" if others else "–"
    chance = f"{100 * board.chance:.1f} %"
    shots = "all" if board.shots is None else board.shots
    setting = markdown(board.setting or "all")
    return f"| {setting} | {shots} | {board.episodes} | {chance} | {_figure(own)} | {best} |"


def _called(row: Row) -> str:
    return f"{row.learner} on {row.model}" if row.model else row.learner


def _everyone(summary: Summary, boards: tuple[Board, ...], name: str) -> str:
    heads = [_name(board) for board in boards]
    lines = [
        "| " + " | ".join(["learner", *heads, "tokens an episode", "seconds an episode"]) + " |",
        "| " + " | ".join(["---"] * (len(heads) + 3)) + " |",
    ]
    for row in summary.overall.rows:
        called = markdown(_called(row))
        own = f"**{called}**" if row.learner == name else called
        cells = [own, *(_figure(board.row(row.learner)) for board in boards)]
        cells += [f"{row.computed_tokens:,.0f}", f"{row.seconds:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _name(board: Board) -> str:
    if board.setting is None:
        return "all"
    shots = "all shots" if board.shots is None else f"{board.shots} shot{'s' * (board.shots != 1)}"
    return f"{markdown(board.setting)}, {shots}"


def _languages(summary: Summary, name: str) -> str:
    settings = list(dict.fromkeys(each.setting for each in summary.languages))
    found = {
        (each.setting, each.language): each.accuracy[name]
        for each in summary.languages
        if name in each.accuracy
    }
    lines = [
        "| " + " | ".join(["language", *map(markdown, settings)]) + " |",
        "| " + " | ".join(["---"] * (len(settings) + 1)) + " |",
    ]
    for language in dict.fromkeys(each.language for each in summary.languages):
        cells = [
            f"{100 * found[setting, language]:.1f} %" if (setting, language) in found else "–"
            for setting in settings
        ]
        lines.append("| " + " | ".join([markdown(language), *cells]) + " |")
    return "\n".join(lines)


def _figure(row: Row) -> str:
    return f"{100 * row.accuracy:.1f} % ({100 * row.low:.1f}–{100 * row.high:.1f})"

"""Write runs' tables into docs/results.md: `python scripts/results.py runs/NAME ...`.

Each run owns the part of the page between its two marker comments; a run that is new to the page
is added at its end. What stands outside the markers is left alone. `icl run configs/NAME.yaml`
made the run; its figures are those of its records, and nothing here is typed by hand.
"""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from icl.evaluation.board import Board, Row
from icl.evaluation.summary import Summary, summarise
from icl.reporting.numbers import count, duration, p_value, percent, points
from icl.reporting.verdict import DAGGER, notes, verdict
from icl.runs.finished import read_run
from icl.runs.folder import RunFolder


def main() -> None:
    """Replace or add the parts of the page that belong to some runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="runs' folders")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--command", help="how the run was started, where options were given")
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8") if options.page.exists() else "# Results\n"
    for folder in options.runs:
        run = RunFolder(folder)
        finished, environment = read_run(run), run.read_json("environment.json")
        summary, config = summarise(finished.records, finished.meta_training), finished.config
        name = config["name"]
        command = options.command or f"icl run configs/{name}.yaml"
        when = datetime.fromtimestamp((folder / "records.jsonl").stat().st_mtime, tz=timezone.utc)
        block = part(summary, config, environment or {}, command, f"{when:%Y-%m-%d}")
        begin, end = f"<!-- run: {name} -->", f"<!-- end of {name} -->"
        text = f"{begin}\n{block}\n{end}"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        page = pattern.sub(lambda _, text=text: text, page)
        if begin not in page:
            page = f"{page.rstrip()}\n\n{text}\n"
    options.page.write_text(page, encoding="utf-8")


def part(
    summary: Summary, config: dict[str, Any], machine: dict[str, Any], command: str, day: str
) -> str:
    """Return one run's part of the page in Markdown."""
    overall = summary.overall
    where = ", ".join(
        str(fact)
        for fact in (
            machine.get("accelerator"),
            f"{machine.get('cores')} cores of {machine.get('processor')}",
            day,
        )
        if fact
    )
    lines = [
        f"### {config['name']}",
        "",
        f"`{command}` ({config['model']['name']}; {where}; icl {machine.get('icl')}).",
        f"{overall.episodes} episodes, {overall.queries} queries,"
        f" chance {percent(overall.chance)}.",
        "",
        verdict(summary),
        *notes(summary),
        "",
        *table(summary),
    ]
    if summary.transductive:
        lines += ["", f"{DAGGER} sees all queries of an episode at once."]
    return "\n".join(lines)


def table(summary: Summary) -> list[str]:
    """Return the rows of the table: accuracies by setting and shots, then over all episodes."""
    heads = [f"{board.setting}, {board.shots} shots" for board in summary.boards]
    columns = ["learner", *heads, "all", "to best, points", "p", "time an episode", "tokens"]
    columns += ["meta-training"] if summary.meta_training else []
    rows = [columns, ["---"] * len(columns)]
    for row in summary.overall.rows:
        best = row is summary.overall.best
        spent = summary.meta_training.get(row.learner)
        cells = [
            row.learner + (f" {DAGGER}" if row.learner in summary.transductive else ""),
            *(cell(board, row.learner) for board in summary.boards),
            f"{100 * row.accuracy:.1f} ({100 * row.low:.1f}–{100 * row.high:.1f})",
            "best" if best else difference(row),
            "" if best else p_value(row.p),
            duration(row.seconds),
            count(row.computed_tokens),
        ]
        if summary.meta_training:
            cells.append("" if spent is None else f"{duration(spent.seconds)}, {spent.steps} steps")
        rows.append(cells)
    return [f"| {' | '.join(cells)} |" for cells in rows]


def cell(board: Board, learner: str) -> str:
    """Return an accuracy in percent with half its interval's width."""
    row = board.row(learner)
    return f"{100 * row.accuracy:.1f} ±{50 * (row.high - row.low):.1f}"


def difference(row: Row) -> str:
    """Return a difference to the best with its interval, in points."""
    ends = f"{points(row.difference_low)} to {points(row.difference_high)}"
    return f"{points(row.difference)} ({ends})"


if __name__ == "__main__":
    main()

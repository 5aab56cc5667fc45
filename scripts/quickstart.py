"""Write the quick start's board into README.md: `python scripts/quickstart.py runs/quickstart`.

The run is that of `icl run configs/quickstart.yaml`. What stands between the page's two marker
comments is made of its records, its environment and --took, and nothing there is typed by hand.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from marked_blocks import RUN, put
from results import configuration

from icl.evaluation.summary import Summary, summarise
from icl.reporting.boards import NONE
from icl.reporting.numbers import duration, episodes_of, p_value, percent, points
from icl.reporting.verdict import verdict
from icl.runs.finished import read_run
from icl.runs.folder import RunFolder

CONFIG = "configs/quickstart.yaml"


def main() -> None:
    """Replace the part of the page that is the run's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--page", type=Path, default=Path("README.md"))
    parser.add_argument("--took", required=True, help="how long it took, and how that was measured")
    asked = parser.parse_args()
    folder = RunFolder(asked.run)
    run, machine = read_run(folder), folder.read_json("environment.json") or {}
    written = datetime.fromtimestamp((asked.run / "records.jsonl").stat().st_mtime, tz=timezone.utc)
    summary = summarise(run.records, run.meta_training, models=run.models)
    block = part(summary, machine, asked.took, f"{written:%Y-%m-%d}")
    block = (
        f"{block}\n\nConfiguration: `{CONFIG}`, sha256 {configuration(asked.run / 'config.yaml')}."
    )
    page = asked.page.read_text(encoding="utf-8")
    asked.page.write_text(put(page, RUN, "quickstart", block), encoding="utf-8")


def part(summary: Summary, machine: dict[str, Any], took: str, day: str) -> str:
    """Return what the page says of the run, in Markdown."""
    board = summary.overall
    rows = [
        ["learner", "model", "accuracy, %", "95 % interval", "to the best (p)", "control, %",
         "time an episode"],
        ["---"] * 7,
    ]  # fmt: skip
    for row in board.rows:
        trained = summary.meta_training.get(row.learner)
        once = f", after {duration(trained.seconds)} of meta-training" if trained else ""
        best = row is board.best
        rows.append([
            row.learner,
            row.model or NONE,
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.low:.1f}–{100 * row.high:.1f}",
            "best" if best else f"{points(row.difference)} ({p_value(row.p)})",
            NONE if row.control is None else f"{100 * row.control:.1f}",
            duration(row.seconds) + once,
        ])  # fmt: skip
    where = f"{machine.get('cores')} cores of {machine.get('processor')}, no GPU, {day}"
    said = f"`icl run {CONFIG}` ({where}; {took}): {verdict(summary)}"
    size = f"{episodes_of(board.episodes, board.draws)}, {board.queries} queries"
    return "\n".join([
        said,
        "",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        "",
        f"{size}, chance {percent(board.chance)}. Control: the same episodes with the examples'"
        " labels shuffled.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()

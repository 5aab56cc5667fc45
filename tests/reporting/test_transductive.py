"""Learners that see all queries at once are marked wherever they are shown."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from icl.reporting import print_table, write_report
from icl.runs.record import EpisodeRecord
from tests.evaluation.synthetic import run_records


def records() -> list[EpisodeRecord]:
    return [
        replace(r, method="soft-k-means") if r.learner == "prototypes" else r for r in run_records()
    ]


def printed(rows: list[EpisodeRecord]) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    print_table(rows, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_table_of_the_terminal_marks_them_and_says_what_the_mark_means() -> None:
    text = printed(records())
    marked = [line for line in text.splitlines() if line.strip().startswith("prototypes †")]
    assert len(marked) == 1 + 2  # the board over all episodes and one table a setting
    assert "† prototypes sees all queries of an episode at once (transductive)" in text
    assert "†" not in printed(list(run_records()))


def test_the_page_marks_them_and_says_what_the_mark_means(tmp_path: Path) -> None:
    def page(rows: list[EpisodeRecord]) -> str:
        path = write_report(
            tmp_path, rows, config={}, environment={}, meta_training={}, command="icl run"
        )
        return path.read_text("utf-8")

    text = page(records())
    mark = '<bdi>prototypes</bdi> <abbr title="transductive: sees all queries at once">†</abbr>'
    assert text.count(mark) == text.count("<bdi>prototypes</bdi>") > 2
    assert "† prototypes sees all queries" in text
    assert "†" not in page(list(run_records()))

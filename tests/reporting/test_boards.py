"""Boards as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace

import pytest

from icl.errors import IclError
from icl.evaluation.summary import summarise
from icl.reporting.boards import table
from tests.evaluation.synthetic import LEARNERS, run_records, written

NASTY = r"50% of_a&b|c {x} \cmd $~^#"


def test_csv_holds_every_figure_of_every_board():
    summary = summarise(run_records())
    rows = list(csv.DictReader(io.StringIO(table(summary, "csv"))))
    boards = (summary.overall, *summary.boards)
    assert len(rows) == len(boards) * len(LEARNERS)
    found = {(r["setting"], r["shots"], r["learner"]): r for r in rows}
    for board in boards:
        for row in board.rows:
            key = (board.setting or "all", str(board.shots) if board.shots else "all", row.learner)
            line = found[key]
            assert float(line["value"]) == row.accuracy and float(line["low"]) == row.low
            assert float(line["p"]) == row.p and float(line["chance"]) == board.chance
            assert int(line["episodes"]) == board.episodes
            assert float(line["seconds"]) == row.seconds


def test_a_control_has_a_column_where_there_is_one_and_all_rows_are_as_wide():
    plain = list(run_records())
    turned = [
        replace(r, setting=f"{r.setting}+shuffled-labels", fingerprint=f"s{r.fingerprint}")
        for r in plain
    ]
    assert "control" not in table(summarise(plain), "csv").splitlines()[0]
    assert "Control" not in table(summarise(plain), "md")
    summary = summarise([*plain, *turned])
    rows = list(csv.DictReader(io.StringIO(table(summary, "csv"))))
    for line, row in zip(rows, summary.overall.rows, strict=False):
        assert float(line["control"]) == row.control == pytest.approx(row.accuracy)
    assert not any(line["control"] for line in rows[len(LEARNERS) :])
    overall, other = table(summary, "md").split("\n\n**")[:2]
    widths = [
        {line.count("|") for line in part.splitlines() if line.startswith("|")}
        for part in (overall, other)
    ]
    assert widths == [{7}, {6}]


def test_markdown_has_one_row_a_learner_and_no_cell_breaks_it():
    records = run_records(learners={NASTY: (0.5, 0, 1), "b\nc": (0.3, 0, 1)})
    lines = table(summarise(records), "md").splitlines()
    body = [line for line in lines if line.startswith("| ")]
    assert len(body) == 5 * (2 + 2)
    for line in body:
        cells = line.replace(r"\\", "").replace(r"\|", "").strip("|").split("|")
        assert len(cells) == 5


def test_latex_escapes_what_it_must_and_compiles_where_there_is_latex(tmp_path):
    records = run_records(learners={NASTY: (0.5, 0, 1), "b": (0.3, 0, 1)})
    text = table(summarise(records), "latex")
    assert r"50\% of\_a\&b|c \{x\} \textbackslash{}cmd \$\~{}\^{}\#" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 5
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.replace(r"\&", "").count("&") == 4 for line in body)
    if compiler := shutil.which("pdflatex"):
        page = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        (tmp_path / "t.tex").write_text(page + text + r"\end{document}", "utf-8")
        subprocess.run([compiler, "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_further_metrics_have_boards_of_their_own():
    records = [
        written(["a"], ["b"], {"chrf": [0.5], "exact_match": [0.0]}, i, name)
        for i in range(3)
        for name in ("one", "two")
    ]
    summary = summarise(records)
    assert "| Learner | chrF |" in table(summary, "md")
    assert "| Learner | Exact match |" in table(summary, "md")
    rows = list(csv.DictReader(io.StringIO(table(summary, "csv"))))
    assert {row["metric"] for row in rows} == {"chrf", "exact_match"}


def test_an_unknown_format_is_told():
    with pytest.raises(IclError, match="Did you mean 'latex'"):
        table(summarise(run_records()), "latx")

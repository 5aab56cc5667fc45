"""`icl plan` and `icl compare` on runs' folders."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from icl.reporting import write_report
from icl.runs.store import RecordStore
from tests.evaluation import small_run
from tests.evaluation.synthetic import record
from tests.place import run_icl

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def run(folder: Path, learners: dict[str, float], seed: int = 0, count: int = 12) -> Path:
    """A run's folder as the runner leaves it, with made-up outcomes."""
    import random

    folder.mkdir(parents=True)
    episodes = list(small_run.sampler("test", (1,), seed).episodes(count))
    (folder / "episodes.jsonl").write_text("".join(e.to_json() + "\n" for e in episodes), "utf-8")
    roster = [
        {"name": name, "method": "in-context", "key": f"{folder.name}-{name}", "training": None}
        for name in learners
    ]
    (folder / "run.json").write_text(json.dumps({"schema_version": 1, "learners": roster}))
    (folder / "config.yaml").write_text(f"seed: {seed}\nepisodes: {{count: {count}}}\n")
    store = RecordStore(folder)
    for episode in episodes:
        for name, level in learners.items():
            rng = random.Random(f"{episode.fingerprint}{name}{folder.name}")
            gold = tuple(episode.labels.index(e.label) for e in episode.query)
            guess = tuple(g if rng.random() < level else (g + 1) % episode.ways for g in gold)
            store.append(
                replace(
                    record(episode.index, name),
                    learner_key=f"{folder.name}-{name}",
                    fingerprint=episode.fingerprint,
                    query_language=episode.query_language,
                    ways=episode.ways,
                    labels=episode.labels.names,
                    query_ids=tuple(e.id for e in episode.query),
                    parallel_ids=tuple(e.parallel_id for e in episode.query),
                    gold=gold,
                    predictions=guess,
                    log_probs=tuple(
                        tuple(0.0 if c == p else -10.0 for c in range(episode.ways)) for p in guess
                    ),
                )
            )
    return folder


def test_a_plan_names_every_pair_and_how_many_episodes_it_takes(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    pilot = run(tmp_path / "pilot", {"low": 0.4, "middle": 0.6, "high": 0.8}, count=20)
    needed = {}
    for difference in (5, 15):
        assert run_icl(monkeypatch, "plan", pilot, "--difference", difference) == 0
        said = capsys.readouterr().out
        assert f"difference of {difference}.0 points in accuracy with a power of 80" in said
        rows = re.findall(
            r"^(low|middle|high) +(low|middle|high) .* (\d+|more items) *$", said, re.M
        )
        assert len(rows) == 3
        needed[difference] = rows
    assert run_icl(monkeypatch, "plan", pilot, "--difference", 15, "--comparisons", 1) == 0
    alone = re.findall(r" (\d+) *$", capsys.readouterr().out, re.M)
    many = [row[2] for row in needed[15] if row[2].isdigit()]
    assert many and min(map(int, alone)) < max(map(int, many))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--difference", "0"], "--difference is 0"),
        (["--difference", "5", "--power", "80"], "--power is 80"),
        (["--difference", "5", "--comparisons", "0"], "--comparisons is 0"),
        (["--difference", "5", "--metric", "accurcy"], "Did you mean 'accuracy'"),
    ],
)
def test_figures_out_of_range_are_told_in_one_line(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture, arguments: list[str], said: str
) -> None:
    pilot = run(tmp_path / "pilot", {"a": 0.4, "b": 0.6})
    assert run_icl(monkeypatch, "plan", pilot, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_a_pilot_needs_two_learners(tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
    assert run_icl(monkeypatch, "plan", run(tmp_path / "one", {"a": 0.5}), "--difference", "5") == 2
    assert "a pilot needs two of each" in capsys.readouterr().err
    assert run_icl(monkeypatch, "plan", tmp_path / "none", "--difference", "5") == 2
    assert "not a run's folder" in capsys.readouterr().err


def test_runs_on_the_same_episodes_stand_side_by_side(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    a = run(tmp_path / "small", {"lora": 0.5, "zero-shot": 0.4})
    b = run(tmp_path / "large", {"lora": 0.9})
    assert run_icl(monkeypatch, "compare", a, b) == 0
    said = capsys.readouterr().out
    assert said.startswith("large: lora learns best")
    assert "small: lora" in said and "zero-shot" in said
    assert run_icl(monkeypatch, "compare", a, b, "--table", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["learner"] for row in rows[:3]] == ["large: lora", "small: lora", "zero-shot"]


def test_all_pairs_of_several_runs_stand_with_every_test(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    a = run(tmp_path / "small", {"lora": 0.5, "zero-shot": 0.4})
    b = run(tmp_path / "large", {"lora": 0.9})
    assert run_icl(monkeypatch, "compare", a, b, "--pairs", "--table", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["first"], row["second"]) for row in rows} == {
        ("large: lora", "small: lora"),
        ("large: lora", "zero-shot"),
        ("small: lora", "zero-shot"),
    }
    assert all(float(row["p_mcnemar"]) <= 1 for row in rows)
    assert run_icl(monkeypatch, "compare", a, b, "--pairs", "--table", "md") == 0
    assert "McNemar" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "160")
    assert run_icl(monkeypatch, "compare", a, b, "--pairs") == 0
    assert "large: lora" in capsys.readouterr().out


def test_a_run_is_asked_what_it_can_answer(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    folder = run(tmp_path / "small", {"lora": 0.9, "[red]": 0.4})
    assert run_icl(monkeypatch, "diagnose", folder, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in answers if a["answered"]] == ["sources"]
    assert len(answers) == 8 and all(a["question"].endswith("?") for a in answers)
    assert all(a["lines"] for a in answers if not a["answered"])
    rows = (folder / "run.json").read_text()
    log = folder / "meta" / ("0" * 16) / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 1.0, "support_loss_0": 2.0, "support_loss_after": 1.0}\n')
    trained = rows.replace(
        '"training": null', '"training": null, "folder": "meta/0000000000000000"'
    )
    (folder / "run.json").write_text(trained)
    assert run_icl(monkeypatch, "diagnose", folder) == 0
    said = capsys.readouterr().out
    assert "Is the inner loop stable?" in said and "Yes: for [red] and lora" in said
    assert "put into the experiment" in said and "variants: [plain" in said
    assert run_icl(monkeypatch, "diagnose", tmp_path / "none") == 2
    assert "not a run's folder" in capsys.readouterr().err


def test_runs_on_other_episodes_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    a = run(tmp_path / "a", {"lora": 0.5})
    b = run(tmp_path / "b", {"lora": 0.5}, seed=1)
    assert run_icl(monkeypatch, "compare", a, b) == 2
    error = capsys.readouterr().err
    assert "a and b cannot be compared" in error and "`seed` (0 and 1)" in error
    assert len(error.strip().splitlines()) == 1


def test_a_report_leaves_its_boards_beside_it(tmp_path: Path) -> None:
    from icl.runs.finished import read_run
    from icl.runs.folder import RunFolder

    folder = run(tmp_path / "run", {"a": 0.4, "b": 0.6})
    write_report(
        folder,
        read_run(RunFolder(folder)).records,
        config={},
        environment={},
        meta_training={},
        command="",
    )
    lines = (folder / "table.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("setting,shots,metric") and len(lines) == 1 + 2
    assert (folder / "table.md").read_text("utf-8").count("| b |") == 1
    assert r"\begin{tabular}" in (folder / "table.tex").read_text("utf-8")

"""`scripts/results.py`: what it writes of a run, and what `--check` finds in pages."""

from __future__ import annotations

import doctest
import importlib
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from icl.evaluation.summary import summarise
from icl.runs.finished import FinishedRun, read_run
from icl.runs.folder import RunFolder
from tests import tiny, tiny_encoders
from tests.place import run_icl

ROOT = Path(__file__).parents[2]
CONFIG = """\
schema_version: 1
name: mine
model: {name: packaged:gemma-3-270m}
tasks: {family: cldr}
episodes: {ways: 2, shots: [1], queries: 2, count: 2}
learners:
  majority: {method: majority}
  tfidf: {method: tfidf, C: 2.0}
"""
TABLE = """\
| learner | all | to best, points | p |
| --- | --- | --- | --- |
| a | 46.5 ±9.0 | best |  |
| b | 31.3 ±5.8 | −15.3 (−23.4 to −6.9) | 0.009 |
"""


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("results")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.yaml").write_text(CONFIG, "utf-8")
    return tmp_path


def block(script: Any, place: Path, command: str = "icl run configs/mine.yaml") -> str:
    """A page with one good block."""
    sets = [command.split("--set ")[1]] if "--set" in command else []
    sha = script.configuration(place / "configs/mine.yaml", sets)
    said = f"`{command}` (a model).\nConfiguration: `configs/mine.yaml`, sha256 {sha} as resolved."
    text: str = script.put("# Results\n", "run", "mine", f"### mine\n\n{said}\n\n{TABLE}")
    return text


def faults(script: Any, place: Path, page: str, name: str = "docs/results.md") -> list[str]:
    (place / name).write_text(page, "utf-8")
    lines, _ = script.check(place)
    return list(lines)


def test_every_figure_of_this_repository_stems_from_a_block(script: Any) -> None:
    lines, said = script.check(ROOT)
    assert lines == []
    assert "Faults: 0." in said


def test_examples_in_the_scripts_hold(script: Any) -> None:
    for name in ("marked_blocks", "traced_figures"):
        failed, tried = doctest.testmod(importlib.import_module(name))
        assert (failed, tried > 0) == (0, True)


def test_a_good_page_has_no_fault(script: Any, place: Path) -> None:
    page = block(script, place) + "\n`a` has 46.5 %, 15.3 points (6.9 to 23.4, p 0.009) more.\n"
    assert faults(script, place, page) == []
    assert "5 stand in a block" in script.check(place)[1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("| a | 46.5", "| a | 46.6", "'mine' was changed after it was written"),
        ("<!-- run: mine -->\n", "", "an end of 'mine' that has not begun"),
        ("<!-- end of mine", "<!-- the end of mine", "the block 'mine' has no end"),
        ("<!-- run: mine -->", "<!-- run: other -->\n<!-- run: mine -->", "'other' has no end"),
        ("<!-- end of mine, sha256", "<!-- end of mine --> <!--", "'mine' has no checksum"),
    ],
)
def test_a_block_that_is_not_whole_is_found(
    script: Any, place: Path, old: str, new: str, says: str
) -> None:
    page = block(script, place)
    assert old in page
    found = faults(script, place, page.replace(old, new))
    assert any(says in line and line.startswith("docs/results.md:") for line in found), found


def test_a_block_without_a_configuration_is_found(script: Any, place: Path) -> None:
    page = script.put("", "run", "mine", f"### mine\n\n{TABLE}")
    assert "names no command or no configuration" in faults(script, place, page)[0]


def test_a_configuration_that_is_gone_or_has_changed_is_found(script: Any, place: Path) -> None:
    page, file = block(script, place), place / "configs/mine.yaml"
    file.write_text("# a comment decides nothing\n" + CONFIG, "utf-8")
    assert faults(script, place, page) == []
    file.write_text(CONFIG.replace("C: 2.0", "C: 1.5"), "utf-8")
    (line,) = faults(script, place, page)
    assert line.startswith("docs/results.md:3: the configuration configs/mine.yaml has changed")
    file.write_text(CONFIG.replace("C: 2.0", "D: 1.5"), "utf-8")
    assert "cannot be read" in faults(script, place, page)[0]
    file.unlink()
    assert "configs/mine.yaml, which is missing" in faults(script, place, page)[0]
    gone = script.withdrawn(page, "mine", "of an earlier default")
    assert faults(script, place, gone) == []
    assert script.withdrawn(gone, "mine", "of an earlier default") == gone


def test_what_the_command_sets_belongs_to_the_configuration(script: Any, place: Path) -> None:
    command = "icl run configs/mine.yaml --set learners.tfidf.C=3.0"
    page = block(script, place, command)
    assert faults(script, place, page) == []
    assert "has changed" in faults(script, place, page.replace("C=3.0", "C=4.0"))[1]


def test_a_block_that_was_changed_by_hand_is_not_sealed_anew(script: Any, place: Path) -> None:
    with pytest.raises(SystemExit, match="changed by hand"):
        script.withdrawn(block(script, place).replace("46.5", "64.5"), "mine", "why")


@pytest.mark.parametrize(
    "remark",
    [
        "It has 46.6 %.",
        "It has 46.50 %.",  # more digits than were measured
        "It has 48 %.",
        "It is 12 points better.",
        "It has ±3.3 in width.",
        "It gains +2.2.",
        "It gains 15.3 (2.9 to 23.4).",
        "It gains 15.3 (6.9\nto 23.9).",
        "The difference is clear (p 0.031).",
        "The difference is clear (p < 0.05).",
        "Its mean is 77.7.",  # pages of results: every number with decimals
    ],
)
def test_a_figure_that_stands_in_no_block_is_found(script: Any, place: Path, remark: str) -> None:
    page = block(script, place)
    found = faults(script, place, f"{page}\n{remark}\n")
    assert len(found) == 1
    line = page.count("\n") + 2 + ("\n" in remark)
    assert found[0].startswith(f"docs/results.md:{line}: ")
    assert "does not stand in" in found[0]


@pytest.mark.parametrize(
    "remark",
    [
        "It has 46 % or 47 %, a half of 95 % intervals being narrower.",  # 46.5 rounds to both
        "It takes 3.3 s on 2026-11-30, `16 %`, [a link](page-1.5.md).",
        "```text\n99 %\n```",
        "On 48 episodes of 24 draws.",
        "`a` is 15 points above `b` <!-- 15.2 = 46.5 - 31.3 -->.",
        "Half of it is 23.3 points <!-- 23.3 = 46.5 / 2 -->.",
        "It was to be within 2 points <!-- given: 2, the goal -->.",
        "The rest is 53.5 % <!-- 53.5 = 100 - 46.5 -->.",
    ],
)
def test_what_is_a_blocks_or_is_derived_passes(script: Any, place: Path, remark: str) -> None:
    assert faults(script, place, f"{block(script, place)}\n{remark}\n") == []


@pytest.mark.parametrize(
    ("remark", "says"),
    [
        ("12 points <!-- 12 = 46.5 - 31.3 -->", "comes to 15.2"),
        ("12 points <!-- 12 = 43.3 - 31.3 -->", "43.3 does not stand in a block"),
        ("12 points <!-- 12 = 46.5 ** 2 -->", "is no sum"),
        ("12 points <!-- given: 13, the goal -->", "'12' does not stand"),
        ("12 points <!-- given: 12 -->", "'12' does not stand"),  # without saying what it is
        ("12.5 points\n\n<!-- 12.5 = 43.8 - 31.3 -->", "43.8 does not stand"),
        ("32.5 points\n\nanother paragraph <!-- 15.2 = 46.5 - 31.3 -->", "'32.5' does not stand"),
    ],
)
def test_a_derivation_that_is_wrong_is_found(
    script: Any, place: Path, remark: str, says: str
) -> None:
    found = faults(script, place, f"{block(script, place)}\n{remark}\n")
    assert any(says in line for line in found), found


def test_computed_passages_name_what_computed_them_and_are_counted(
    script: Any, place: Path
) -> None:
    passage = "<!-- computed: {} -->\nIt gains 3.3 points.\n<!-- end of computed -->\n"
    page = block(script, place) + "\n" + passage.format("icl.evaluation.analysis.compare")
    assert faults(script, place, page) == []
    assert "1 are by a computation" in script.check(place)[1]
    page = block(script, place) + "\n" + passage.format("by hand")
    assert "names no command" in faults(script, place, page)[0]
    page = block(script, place) + "\n" + passage.format("icl x").replace("<!-- end of", "<!-- ")
    assert any("has no end" in line for line in faults(script, place, page))


def test_a_section_with_blocks_stands_on_these(script: Any, place: Path) -> None:
    other = "## Other\n\n`icl run other` says:\n\n| a |\n| --- |\n| 71.1 |\n\nIt has {} %.\n"
    page = block(script, place) + "\n"
    assert faults(script, place, page + other.format("71.1")) == []
    assert "this section's" in faults(script, place, page + other.format("46.5"))[0]
    assert faults(script, place, page + "## None\n\nIt has 46.5 %.\n") == []
    gone = script.withdrawn(page, "mine", "of an earlier default")
    assert faults(script, place, gone + "\nIt had 46.5 %.\n") == []
    assert "any block" in faults(script, place, gone + "\n## None\n\nIt has 46.5 %.\n")[0]


def test_a_table_without_its_command_is_no_block(script: Any, place: Path) -> None:
    table = "| a |\n| --- |\n| 71.1 % |\n"
    assert "71.1" in faults(script, place, f"# A page\n\n{table}", "README.md")[0]
    assert faults(script, place, f"# A page\n\n`icl run x`:\n\n{table}", "README.md") == []


def test_the_command_fails_where_a_page_does(
    script: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["results.py", "--check", "--root", str(place)])
    for page, code in ((block(script, place), 0), (block(script, place) + "\n99 %\n", 1)):
        (place / "docs/results.md").write_text(page, "utf-8")
        with pytest.raises(SystemExit) as left:
            script.main()
        assert left.value.code == code
        said = capsys.readouterr().out.splitlines()
        assert len(said) == 1 + code
        assert said[-1].endswith(f"Faults: {code}.")


EXPERIMENT = """\
schema_version: 1
name: which
models: {llm: {name: LLM}, encoder: {name: ENCODER}}
tasks: {family: cldr}
episodes:
  split: test
  ways: 2
  shots: [1, 2]
  queries: 2
  count: 2
  variants: [plain, shuffled-labels]
tuning: {trials: 2, episodes: 2}
learners:
  majority: {method: majority}
  in-context: {method: in-context, search: {}}
  prototypes: {method: prototypes, model: encoder, search: {whiten: [true]}}
  meta-prototypes:
    method: meta-prototypes
    model: encoder
    search: {}
    training: {split: train, steps: 2, meta_batch: 1, shots: 1, queries: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    place = tmp_path_factory.mktemp("results")
    (place / "configs").mkdir()
    text = EXPERIMENT.replace("LLM", str(tiny.save(place / "llm")))
    text = text.replace("ENCODER", str(tiny_encoders.save(place / "encoder")))
    (place / "configs/which.yaml").write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_icl(patch, "run", "configs/which.yaml") == 0
    return place


def rows(text: str, head: str) -> dict[str, dict[str, str]]:
    """The rows of the table whose head begins so, by their first cells."""
    lines = text[text.index(f"\n| {head}") + 1 :].replace("\u00a0", " ").splitlines()
    table = list(takewhile(lambda line: line.startswith("|"), lines))
    split = [[c.strip() for c in line[1:-1].split("|")] for line in table]
    return {row[0]: dict(zip(split[0], row, strict=True)) for row in split[2:]}


def test_a_runs_block_says_what_its_records_say(
    script: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "docs").mkdir(exist_ok=True)
    asked = ["results.py", "runs/which", "--pairs", "prototypes:majority"]
    monkeypatch.setattr(sys, "argv", asked)
    script.main()
    page = (folder / "docs/results.md").read_text("utf-8")
    run: FinishedRun = read_run(RunFolder(folder / "runs/which"))
    summary = summarise(run.records, run.meta_training, models=run.models)
    shown = rows(page, "learner | model")
    assert [*shown] == [row.learner for row in summary.overall.rows]
    assert {n: r["model"] for n, r in shown.items()} == {
        "majority": "–", "in-context": "llm", "prototypes": "encoder",
        "meta-prototypes": "encoder",
    }  # fmt: skip
    for board in summary.boards:
        if "shuffled" not in str(board.setting):
            head = f"{board.setting}, {board.shots} shot{'s' if board.shots == 2 else ''}"
            for row in board.rows:
                assert shown[row.learner][head].startswith(f"{100 * row.accuracy:.1f} ±")
    for name, cells in shown.items():  # the control, counted by hand
        lot = [
            r for r in run.records if r.learner == name and r.setting.endswith("+shuffled-labels")
        ]
        right = [p == g for r in lot for p, g in zip(r.predictions, r.gold, strict=True)]
        assert len(right) == 8
        assert cells["labels by lot (chance 50.0 %)"].startswith(f"{100 * sum(right) / 8:.1f} ±")
    assert not any("shuffled" in head for head in shown["majority"])
    assert "Effort: 2 trials of each learner, on the same" in page
    assert "nothing to search: majority, in-context, meta-prototypes." in page
    costs = rows(page, "learner | time an episode")
    assert costs["meta-prototypes"]["meta-training"].endswith(", 2 steps")
    assert costs["prototypes"]["its trials"].startswith("2, ")
    assert rows(page, "episodes | learner")
    assert "| prototypes | majority |" in page
    assert page.count("(best meta-trained)") == 2
    assert str(folder) not in page
    script.main()
    assert (folder / "docs/results.md").read_text("utf-8") == page
    lines, _ = script.check(folder)
    assert lines == []  # the folder's configuration is the file's


def test_a_run_of_fewer_episodes_says_so(
    script: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    whole = read_run(RunFolder(folder / "runs/which"))
    assert "Not the whole" not in script.part(whole, "icl run x", "configs/which.yaml")
    command = ["run", "configs/which.yaml", "--out", "runs/look", "--limit", "1"]
    assert run_icl(monkeypatch, *command) == 0
    look = read_run(RunFolder(folder / "runs/look"))
    said = script.part(look, "icl run x --limit 1", "configs/which.yaml")
    assert "Not the whole experiment: 1 episodes of a setting" in said


def test_a_pair_that_is_not_there_is_refused(
    script: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["results.py", "runs/which", "--pairs", "prototypes:typo"])
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == 2
    assert "--pairs names 'typo'" in capsys.readouterr().err

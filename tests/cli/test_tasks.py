"""icl tasks list, show, check and new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from icl.cli.main import app
from icl.errors import IclError
from icl.tasks import family_names, load_family
from icl.tasks.kinds.generation import Generation
from tests.tasks.helpers import definition, source

ROWS = [{"id": str(i), "text": f"text {i}", "label": "good" if i % 3 else "bad"} for i in range(30)]
MISNAMED = source(columns={"label": "labl", "fields": {"text": "text"}})


def run(*arguments: Any) -> str:
    """Run a command that succeeds; return what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in ("tasks", *arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: Any) -> str:
    """Run a command that must exit with 2; return what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in ("tasks", *arguments)])
    if isinstance(result.exception, IclError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.output


def write(folder: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in (ROWS if rows is None else rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(definition(**changes), sort_keys=False), encoding="utf-8")
    return path


def test_list_names_every_family() -> None:
    told = run("list")
    assert [line.split()[0] for line in told.splitlines()[1:]] == list(family_names())


def test_show_says_all_of_a_family(tmp_path: Path) -> None:
    path = write(tmp_path, citation="A & B", checked="columns, by eye")
    told = run("show", path, "--language", "en")
    for part in ("toy: a toy", "licence: CC0", "citation: A & B", "checked: columns, by eye",
                 "source: directory", "split test: 1 language: en", "2 labels: good, bad",
                 "30 examples in en", "    | text 0 = bad"):  # fmt: skip
        assert part in told


def test_check_reads_local_data_and_passes(tmp_path: Path) -> None:
    write(tmp_path)
    assert "right; 1 task, 1 language, 30 examples read" in run("check", tmp_path)


def test_check_says_when_it_did_not_read_the_data() -> None:
    assert "data not read" in run("check", "sib200")


def test_check_tells_of_labels_without_examples(tmp_path: Path) -> None:
    tasks = {"mood": {"labels": ["good", "bad", "odd"], "template": {"input": "{{ text }}"}}}
    assert "'mood' has no example of the label 'odd'" in run("check", write(tmp_path, tasks=tasks))


def test_check_of_a_folder_tells_each_fault_and_exits_with_2(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(definition(licence=None)))
    (tmp_path / "b.yaml").write_text("name: [")
    told = refused("check", tmp_path)
    assert "a.yaml, line 4, field 'licence'" in told
    assert "b.yaml, line 1" in told
    assert "toy.yaml: right" in told


def row(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [r | changes if i == number else r for i, r in enumerate(ROWS, start=1)]


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        (
            [{k: v for k, v in r.items() if k != "text"} if r["id"] == "6" else r for r in ROWS],
            {}, ["rows.jsonl, row 7", "the column 'text' is missing", "Known: id, label"],
        ),
        (row(7, text=None), {}, ["rows.jsonl, row 7", "'text' is missing", "give it a value"]),
        (ROWS, {"sources": MISNAMED}, ["rows.jsonl, row 1", "'labl' is missing", "Did you mean"]),
        (row(7, label="meh"), {}, ["rows.jsonl, row 7", "label 'meh'", "add it to `labels`"]),
        (row(7, text="  "), {}, ["rows.jsonl, row 7", "'text' is empty", "fill or remove"]),
        (row(7, id="3"), {}, ["rows.jsonl, row 7", "id '3' stands in row 4", "give each row"]),
        (
            [r for r in ROWS if r["label"] == "good"] + ROWS[:1], {},
            ["rows.jsonl, row 21", "label 'bad' has this one example", "add another"],
        ),
        (
            ROWS, {"tasks": {"mood": {
                "labels": ["good", "bad"], "template": {"input": "{{ text.nope }}"},
            }}},
            ["'{{ text.nope }}' cannot be rendered"],
        ),
        (
            ROWS, {"tasks": {"mood": {
                "labels": ["good", "bad"], "template": {"input": "{{ text"},
            }}},
            ["toy.yaml, line", "field 'tasks.mood.template.input'", "not valid Jinja2"],
        ),
        (
            ROWS, {"tasks": {"mood": {
                "labels": ["good", "bad"], "template": {"input": "{{ text.__class__ }}"},
            }}},
            ["toy.yaml, line", "field 'tasks.mood.template.input'", "'__class__'", "remove it"],
        ),
    ],
)  # fmt: skip
def test_bad_data_is_told_with_file_row_and_mend(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], said: list[str]
) -> None:
    told = refused("check", write(tmp_path, rows, **changes))
    assert "Traceback" not in told
    for part in said:
        assert part in told


def test_the_wrong_encoding_is_told_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path)
    lines = (tmp_path / "rows.jsonl").read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b"text 4", "café".encode("latin-1"))
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    told = refused("check", path)
    assert "rows.jsonl, row 5: not UTF-8" in told
    assert "save the file as UTF-8" in told


def test_the_process_exits_with_2_and_without_a_traceback(tmp_path: Path) -> None:
    path = write(tmp_path, row(7, label="meh"))
    done = subprocess.run(
        [sys.executable, "-m", "icl", "tasks", "check", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("icl: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_new_makes_a_family_of_one_file_that_episodes_can_be_drawn_from(
    tmp_path: Path, suffix: str
) -> None:
    data = tmp_path / f"My moods{suffix}"
    if suffix == ".csv":
        lines = ["id,Text,label", *(f"{r['id']},{r['text']},{r['label']}" for r in ROWS)]
    else:
        lines = [json.dumps({"id": r["id"], "Text": r["text"], "label": r["label"]}) for r in ROWS]
    data.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "defs" / "moods.yaml"
    assert "30 examples read" in run("new", data, "--out", out)
    assert out.read_text().startswith("# yaml-language-server: $schema=task.schema.json\n")
    assert (out.parent / "task.schema.json").is_file()
    family = load_family(str(out))
    assert (family.name, list(family.splits)) == ("my-moods", ["train", "validation", "test"])
    parts = [{e.id for e in family.examples(s, "my-moods", "en")} for s in family.splits]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 30
    assert "right; 1 task, 1 language, 30 examples read" in run("check", out)


def test_new_finds_languages_and_splits(tmp_path: Path) -> None:
    for language in ("de", "sw"):
        for split in ("train", "test"):
            file = tmp_path / "data" / language / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [r | {"text": f"{language} {split} {r['text']}"} for r in ROWS]
            file.write_text("\n".join(map(json.dumps, rows)))
    run("new", tmp_path / "data", "--out", tmp_path / "d.yaml")
    family = load_family(str(tmp_path / "d.yaml"))
    assert {n: s.languages for n, s in family.splits.items()} == {
        "train": ("de", "sw"), "test": ("de", "sw"),
    }  # fmt: skip
    assert family.examples("test", "data", "sw")[0].text == "sw test text 0"
    assert family.disjoint == (("train", "test", "id"),)


def test_new_writes_generation_tasks(tmp_path: Path) -> None:
    data = tmp_path / "sums.csv"
    data.write_text("question,answer\n" + "".join(f"{i} + 1?,{i + 1}\n" for i in range(9)))
    run("new", data, "--kind", "generation", "--out", tmp_path / "sums.yaml")
    task = load_family(str(tmp_path / "sums.yaml")).load("sums", "en")
    assert (task.kind, task.examples[3].label) == (Generation(metrics=("exact_match",)), "4")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.csv"], "no file or directory nothing.csv"),
        (["DATA", "--label", "labl"], "no column 'labl'. Did you mean 'label'?"),
        (["DATA", "--text", "txt"], "no column 'txt'. Did you mean 'text'?"),
        (["DATA", "--kind", "odd"], "--kind is 'odd'; say classification or generation"),
        (["DATA", "--out", "TOY"], "exists; name another file with --out"),
        (["DATA", "--out", "x.txt"], "name a file that ends in .yaml"),
        (["EMPTY"], "holds no tables"),
        (["TOY"], "ends in none of .jsonl"),
    ],
)
def test_new_tells_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {
        "TOY": str(write(tmp_path)),
        "DATA": str(tmp_path / "rows.jsonl"),
        "EMPTY": str(tmp_path / "empty"),
    }
    assert said in refused("new", *(places.get(a, a) for a in arguments))

"""What CONTRIBUTING.md says of a new method is all that it takes: the page's own is built by it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import tiny
from tests.docs.pages import blocks, commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
EXPERIMENT = """\
schema_version: 1
name: mine
model: {name: MODEL}
tasks: {family: tickets.yaml}
episodes: {ways: 2, shots: [1], queries: 2, count: 2}
learners: {bayes: {method: naive-bayes, smoothing: 0.5}}
"""


def parts(page: str) -> tuple[dict[str, str], str, str, list[list[str]]]:
    """Return the files by their places, the registry's line, the heading, and the commands."""
    said = textwrap.dedent(page)
    inner = re.compile(r"^( *)(`{3,4})(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^\1\2$", re.M | re.S)
    files, line, heading, asked = {}, "", "", []
    for found in inner.finditer(said):
        text = re.sub(rf"^{found[1]}", "", found[5], flags=re.M)
        if found[4]:
            files[found[4]] = text
        elif found[3] == "text":
            line = text
        elif found[3] == "markdown":
            heading = text
        elif found[3] == "console":
            asked += commands(text)
    return files, line, heading, asked


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository that holds what the page says, and the how-to's source as icl's."""
    place = tmp_path_factory.mktemp("contributing")
    for folder in ("icl", "tests", "docs", "tasks", "configs"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    start, end = PAGE.index("## A method"), PAGE.index("## Where other things go")
    files, line, heading, _ = parts(PAGE[start:end])
    for name, text in files.items():
        assert not (place / name).exists()
        (place / name).write_text(text, "utf-8")
    insert(place / "icl/learners/registry.py", line, "}\n\n\ndef methods")
    insert(place / "docs/methods/baselines.md", f"\n{heading}")
    insert(place / "docs/methods/index.md", ", `naive-bayes`", " |\n\nSymbols")
    page = (ROOT / "docs/howto/own-source.md").read_text("utf-8")
    shown = {block.title: block.text for block in blocks(page)}
    (place / "icl/tasks/sources/sqlite.py").write_text(shown["sqlite_source.py"], "utf-8")
    own = '    "sqlite": "icl.tasks.sources.sqlite:Sqlite",\n'
    insert(place / "icl/tasks/sources/registry.py", own, "}\n\n\ndef source_class")
    tickets = shown["tickets.yaml"].replace("sqlite_source.py:Sqlite", "sqlite")
    (place / "tickets.yaml").write_text(tickets, "utf-8")
    model = tiny.save(place / "model")
    (place / "mine.yaml").write_text(EXPERIMENT.replace("MODEL", str(model)), "utf-8")
    (made,) = [b.text for b in blocks(page) if b.language == "python" and not b.title]
    done(place, [sys.executable, "-c", made])
    return place


def insert(path: Path, new: str, before: str = "") -> None:
    text = path.read_text("utf-8")
    at = text.index(before) if before else len(text)
    path.write_text(text[:at] + new + text[at:], "utf-8")


def done(place: Path, words: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(place), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        words, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_page_runs_passes(place: Path) -> None:
    *_, asked = parts(PAGE)
    assert len(asked) == 3
    for words in asked:
        python = words[1:] if words[0] == "python" else ["-m", *words]
        said = done(place, [sys.executable, *python])
        if "pytest" in words:
            assert re.search(r"\d+ passed", said)
            assert "skipped" not in said
    assert "smoothing" in said
    assert "all labels are as likely beforehand" in said


def test_it_runs_on_a_source_that_has_become_icls(place: Path) -> None:
    assert "right" in done(place, [sys.executable, "-m", "icl", "tasks", "check", "tickets.yaml"])
    done(place, [sys.executable, "-m", "icl", "run", "mine.yaml", "--out", "run"])
    lines = (place / "run/records.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["naive-bayes"] * 2

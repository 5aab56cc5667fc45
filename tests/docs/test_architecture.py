"""The page on architecture says what the code is, and no page names what is not there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_imports import ROOMS, modules

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \| ([^|]+) \|$", re.MULTILINE)
PATH = re.compile(r"(?<![\w./:@-])((?:\w[\w-]*/)+\w+\.(?:py|j2))\b")
FOLDER = re.compile(r"`((?:icl|tests|scripts|docs|configs)/[\w/-]*\w)/?`")
NAME = re.compile(r"(?<![\w.@/\"-])(icl(?:\.[A-Za-z_]\w*)+)(?![\w/:\"-])")
# made by the page that walks through a new method
MADE = {"icl/learners/baselines/naive_bayes.py", "tests/learners/test_naive_bayes.py"}


def test_the_table_of_rooms_is_the_tests() -> None:
    told: dict[str, set[str]] = {}
    for room, first, below in ROW.findall(ARCHITECTURE):
        assert (ROOT / first).is_file(), first
        assert first.startswith(f"icl/{room}/")
        told[room] = set()
        for name in re.findall(r"`(\w+\+?)`", below):
            whole = name.rstrip("+")
            told[room] |= {whole} | (told[whole] if name != whole else set())
    assert told == ROOMS


def test_every_diagram_is_drawn() -> None:
    script = ROOT / "scripts/diagrams.py"
    spec = importlib.util.spec_from_file_location("icl_diagrams", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = {path.name for path in (ROOT / "docs/diagrams").glob("*.svg")}
    assert drawn == set(module.diagrams()), "run scripts/diagrams.py"
    assert len(drawn) >= 2


def missing(text: str) -> Iterator[str]:
    """Yield the files and names of icl that a page names and that are not there."""
    for path in [*PATH.findall(text), *FOLDER.findall(text)]:
        places = (ROOT / path, ROOT / "icl" / path)  # some are said as seen from the package
        if path not in MADE and not any(place.exists() for place in places):
            yield path
    for name in NAME.findall(text):
        if not is_there(name):
            yield name


def is_there(name: str) -> bool:
    """Tell whether a dotted name leads to a module of icl or to something in one."""
    parts = name.split(".")
    ends = [n for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in modules()]
    found = import_module(".".join(parts[: max(ends)]))
    for part in parts[max(ends) :]:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def test_pages_name_only_what_is_there() -> None:
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in dict.fromkeys(missing(page.read_text("utf-8")))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["`icl/nowhere.py`", "`models/nowhere.py`", "icl.tasks.nowhere"])
def test_what_is_not_there_is_found(name: str) -> None:
    assert list(missing(f"See {name} for it."))

"""What the tutorials and how-tos show runs as it stands, with a tiny model for the packaged one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import icl
from tests import tiny, tiny_encoders
from tests.docs.pages import run_page

DOCS = Path(icl.__file__).parent.parent / "docs"
PAGES = sorted([*(DOCS / "tutorials").glob("*.md"), *(DOCS / "howto").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("docs") / "model"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_encoders.save(tmp_path_factory.mktemp("docs") / "encoder"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_block_of_a_page_runs_in_order(
    page: Path, model: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    text = page.read_text("utf-8")
    if "sentence_transformers" in text:
        pytest.importorskip("sentence_transformers", reason="the extra `setfit` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert run_page(text, model, monkeypatch, encoder) >= 2


def test_a_page_that_shows_what_fails_is_caught(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = "```python\nx = 1\n```\n```python\nassert x == 1\n```\n"
    assert run_page(good, model, monkeypatch) == 2
    with pytest.raises(AssertionError):
        run_page(good.replace("== 1", "== 2"), model, monkeypatch)
    with pytest.raises(AssertionError, match="line 1"):
        run_page("```console\n$ icl report nowhere\n```\n", model, monkeypatch)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=DOCS.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "howto" / "own-method" / "index.html").is_file()


def test_pages_of_ones_own_parts_are_short() -> None:
    names = ("own-kind", "own-method", "own-source", "own-model-class")
    pages = {name: (DOCS / f"howto/{name}.md").read_text("utf-8") for name in names}
    assert {name: len(text.splitlines()) < 60 for name, text in pages.items()} == dict.fromkeys(
        names, True
    )
    contributing = (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8")
    assert all(f"docs/howto/{name}.md" in contributing for name in names)


def test_links_of_contributing_lead_somewhere() -> None:
    text = (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8")
    targets = [t.partition("#")[0] for t in LINK.findall(text) if "://" not in t]
    assert [t for t in targets if not (DOCS.parent / t).exists()] == []

"""The notebooks are the tutorials, and run in Jupyter as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import icl
from tests import tiny, tiny_encoders
from tests.docs.pages import RUN, Block, blocks

ROOT = Path(icl.__file__).parent.parent
PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text("utf-8"))
    return found


def as_cell(block: Block) -> str:
    """Return a block as a cell should be, told apart from the script's own way of doing it."""
    if block.title:
        return f"%%writefile {block.title}\n{block.text}"
    if block.language == "python":
        return block.text
    return "".join(
        "!" + line.removeprefix("$ ") if line.startswith("$ ") else line
        for line in block.text.splitlines(keepends=True)
    )


def test_notebooks_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/notebooks.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"run python scripts/notebooks.py: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_cells_are_the_blocks_that_the_tests_of_the_pages_run(page: Path) -> None:
    cells = ["".join(c["source"]) for c in read(page.stem)["cells"] if c["cell_type"] == "code"]
    shown = [b for b in blocks(page.read_text("utf-8")) if b.title or b.language in RUN]
    assert cells == [as_cell(block).strip("\n") for block in shown]
    assert sum(cell.startswith("!icl ") for cell in cells) >= 1
    for cell in cells:
        if not cell.startswith(("!", "%%")):
            compile(cell, page.stem, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_notebook_is_valid_and_holds_no_outputs(page: Path) -> None:
    book = read(page.stem)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert not any(cell.get("outputs") for cell in book["cells"])
    prose = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown"]
    assert any("](../docs/tutorials/" in text for text in prose)


def test_a_changed_page_is_noticed(tmp_path: Path) -> None:
    for part in ("scripts/notebooks.py", "docs/tutorials/evaluate.md"):
        target = tmp_path / part
        target.parent.mkdir(parents=True)
        target.write_bytes((ROOT / part).read_bytes())

    def script(*options: str) -> int:
        command = [sys.executable, str(tmp_path / "scripts/notebooks.py"), *options]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert (script("--check"), script(), script("--check")) == (1, 0, 0)
    page = tmp_path / "docs/tutorials/evaluate.md"
    page.write_text(page.read_text("utf-8").replace("print(result)", "print(result, result)"))
    assert script("--check") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_notebook_runs_in_jupyters_kernel(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="the extra `docs` is not installed")
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    if not Path(sys.executable).with_name("icl").exists():
        pytest.skip("the command `icl` is not installed beside this Python")
    if "sentence_transformers" in page.read_text("utf-8"):
        pytest.importorskip("sentence_transformers", reason="the extra `setfit` is not installed")
    model = tiny.save(tmp_path / "model")
    encoder = tiny_encoders.save(tmp_path / "encoder")
    models = ["--model", str(model), "--encoder", str(encoder)]
    command = [sys.executable, ROOT / "scripts/notebooks.py", "--execute", page.stem, *models]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{page.stem}: every cell ran\n"

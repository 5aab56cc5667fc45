"""Write the tutorials as notebooks, out of the same Markdown: python scripts/notebooks.py

Each page under docs/tutorials becomes notebooks/NAME.ipynb. Prose stays prose, Python becomes
cells, commands begin with ``!``, and a file that a page shows becomes a cell with ``%%writefile``:
there is one source, which the tests run. ``--execute`` runs the notebooks in Jupyter's kernel
(nbclient and ipykernel) in a folder of their own, and fails where a cell or a command in it does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "notebooks"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+://|#)([^)\s]+)\)")
_SITE = "docs/tutorials"
PACKAGED = "packaged:gemma-3-270m"
ENCODER = "packaged:multilingual-e5-small"


def notebook(page: Path) -> dict[str, Any]:
    """Return a page as a notebook of format 4.5, without outputs.

    Args:
        page: a Markdown file whose blocks are Python, console commands, or files with a title.
    """
    text = page.read_text("utf-8")
    cells: list[dict[str, Any]] = []
    end = 0
    for block in _BLOCK.finditer(text):
        _add(cells, "markdown", _linked(text[end : block.start()]))
        language, title, code = block[1], block[2], block[3]
        if title:
            _add(cells, "code", f"%%writefile {title}\n{code}")
        elif language == "python":
            _add(cells, "code", code)
        elif language == "console":
            _add(cells, "code", re.sub(r"^\$ ", "!", code, flags=re.MULTILINE))
        else:
            _add(cells, "markdown", block[0])
        end = block.end()
    _add(cells, "markdown", _linked(text[end:]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language_info = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    metadata = {"kernelspec": kernel, "language_info": language_info}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_json(made: dict[str, Any]) -> str:
    """Write a notebook as Jupyter does, so that opening and saving changes nothing but outputs."""
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _add(cells: list[dict[str, Any]], kind: str, text: str) -> None:
    text = text.strip("\n")
    if not text:
        return
    name = hashlib.sha256(f"{len(cells)}\0{text}".encode()).hexdigest()[:8]
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    cells.append({**cell, "source": text.splitlines(keepends=True)})


def _linked(text: str) -> str:
    """Let links lead to the pages, seen from the notebooks' folder."""
    return _LINK.sub(lambda found: f"](../{_SITE}/{found[1]})", text)


def execute(made: dict[str, Any], model: str | None = None, encoder: str | None = None) -> None:
    """Run a notebook's cells in a fresh kernel and an empty folder.

    Args:
        made: what `notebook` returns.
        model, encoder: stand in for the packaged models, for a quick trial.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails, or a command in it.
    """
    import nbformat
    from nbclient import NotebookClient

    text = json.dumps(made).replace(PACKAGED, model or PACKAGED)
    text = text.replace(ENCODER, encoder or ENCODER)
    book = nbformat.reads(text, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code" and cell.source.startswith("!"):
            lines = cell.source.split("\n")  # a shell's failure alone does not stop a notebook
            cell.source = "\n".join(f"{line}\nassert _exit_code == 0" for line in lines)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(book, timeout=3600, kernel_name="python3", resources=resources).execute()


def main() -> None:
    """Write all notebooks, or say which are out of date, or run them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one differs")
    parser.add_argument("--execute", nargs="*", metavar="NAME", help="run all, or these")
    parser.add_argument("--model", help="with --execute: in place of the packaged model")
    parser.add_argument("--encoder", help="with --execute: in place of the packaged encoder")
    asked = parser.parse_args()
    check = asked.check
    if asked.execute is not None:
        for page in sorted(PAGES.glob("*.md")):
            if not asked.execute or page.stem in asked.execute:
                execute(notebook(page), asked.model, asked.encoder)
                print(f"{page.stem}: every cell ran")
        return
    stale = []
    for page in sorted(PAGES.glob("*.md")):
        target = NOTEBOOKS / f"{page.stem}.ipynb"
        text = to_json(notebook(page))
        if target.is_file() and target.read_text("utf-8") == text:
            continue
        stale.append(target.name)
        if not check:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, "utf-8")
    print(", ".join(stale) + (" differ" if check else " written") if stale else "all up to date")
    if check and stale:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

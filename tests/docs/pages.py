"""Runs what a page shows, in its order: files, commands and Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.place import run_icl

_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = ("python", "console")
PACKAGED = "packaged:gemma-3-270m"
ENCODER = "packaged:multilingual-e5-small"


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, the file that it is if it has a title, and its text."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(page):
        yield Block(found[1], found[2] or "", found[3], page[: found.start()].count("\n") + 1)


def commands(text: str) -> list[list[str]]:
    """Return the commands of a console block, each as its words; what is printed has no ``$``."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True)
            for line in joined.splitlines() if line.startswith("$ ")]  # fmt: skip


def run_page(page: str, model: str, monkeypatch: pytest.MonkeyPatch, encoder: str = ENCODER) -> int:
    """Run a page in the present folder with small models in the packaged ones' places.

    Returns how many blocks were run. A command that is shown to fail stands with ``# exit 2``.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    done = 0
    for block in blocks(page):
        text = block.text.replace(PACKAGED, model).replace(ENCODER, encoder)
        where = f"the block in line {block.line}"
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(text, "utf-8")
        elif block.language == "python":
            exec(compile(text, where, "exec"), names)
            done += 1
        elif block.language == "console":
            for line, words in zip(
                [x for x in text.replace("\\\n", " ").splitlines() if x.startswith("$ ")],
                commands(text), strict=True,
            ):  # fmt: skip
                assert words[0] == "icl", f"{where}: only icl can be run, not {words[0]!r}"
                expected = 2 if line.rstrip().endswith("# exit 2") else 0
                assert run_icl(monkeypatch, *words[1:]) == expected, f"{where}: {line}"
            done += 1
    return done

"""Small tables with words of three kinds."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.learners import problems

ROWS = [(text, kind) for kind, texts in problems.TEXTS.items() for text in texts]


def write(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def train(folder: Path) -> Path:
    return write(folder / "train.csv", ("phrase", "kind"), ROWS)


def new(folder: Path) -> Path:
    rows = [(str(i), text) for i, (text, _) in enumerate(ROWS)] + [("x", ROWS[0][0])]
    return write(folder / "new.csv", ("number", "phrase"), rows)

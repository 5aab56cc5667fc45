"""What a kind of task does, its class says: nobody else compares kinds, or names of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import icl
from icl.tasks.kinds.registry import KINDS

ROOT = Path(icl.__file__).parent


def asked(tree: ast.AST) -> Iterator[int]:
    """Yield the lines in which a kind is compared with a text, or anything with a kind's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        else:
            continue
        texts = {
            part.value
            for side in sides
            for part in ast.walk(side)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        }
        names = {getattr(side, "id", getattr(side, "attr", "")) for side in sides}
        if texts & set(KINDS) or (texts and "kind" in names):
            yield node.lineno


def test_the_search_finds_what_it_should() -> None:
    found = asked(ast.parse(
        "if task.kind == 'x': ...\nkind in ('a', 'b')\nlabel != 'generation'\n"
        "match kind:\n    case 'a': ...\nkind is other\n{'generation': 1}[kind]"
    ))  # fmt: skip
    assert sorted(found) == [1, 2, 3, 4]


def test_nobody_asks_for_a_kind_outside_of_its_file() -> None:
    found = [
        f"{path.relative_to(ROOT)}, line {line}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent != ROOT / "tasks" / "kinds"
        for line in asked(ast.parse(path.read_text("utf-8")))
    ]
    assert not found

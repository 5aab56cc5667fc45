"""What a kind of task does, its class says: nobody else compares kinds, or names of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import icl
from icl.tasks.kinds.registry import KINDS, kind_class

ROOT = Path(icl.__file__).parent
CLASSES = {kind_class(name).__name__ for name in KINDS}
# Whether a name is one of icl's, has a draft, or need not be said, is no question of what it does.
FREE = {"KINDS", "DRAFTED", "CLASSIFICATION"}
TABLES = {"tasks/definitions/draft.py"}  # a draft for each kind


def is_kind(node: ast.AST) -> bool:
    """Tell whether an expression is a kind, or its name: ``kind``, ``x.kind``, ``x.kind.name``."""
    if isinstance(node, ast.Attribute) and node.attr == "name":
        return is_kind(node.value)
    return getattr(node, "id", getattr(node, "attr", "")) == "kind"


def asked(tree: ast.AST) -> Iterator[int]:
    """Yield the lines in which a kind is compared with a text or a constant, anything with a kind's
    name or class, or in which names of several kinds lead somewhere.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides: list[ast.AST] = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in {"startswith", "endswith"} and is_kind(node.func.value):
                yield node.lineno
            continue
        elif isinstance(node, ast.Call):
            if getattr(node.func, "id", "") in {"isinstance", "issubclass"} and told(node.args[1:]):
                yield node.lineno
            continue
        elif isinstance(node, ast.Dict):
            if len(texts_in(key for key in node.keys if key is not None) & set(KINDS)) > 1:
                yield node.lineno
            continue
        else:
            continue
        texts = texts_in(sides)
        names = {getattr(s, "id", getattr(s, "attr", "")) for s in sides} - FREE
        fixed = texts or any(map(str.isupper, names))
        if texts & set(KINDS) or (fixed and any(map(is_kind, sides))) or told(sides):
            yield node.lineno


def texts_in(nodes: Iterable[ast.AST]) -> set[str]:
    parts = (part for node in nodes for part in ast.walk(node))
    return {p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)}


def told(nodes: Iterable[ast.AST]) -> bool:
    """Tell whether a kind's class stands in expressions or patterns."""
    parts = (part for node in nodes for part in ast.walk(node))
    return any(getattr(part, "id", getattr(part, "attr", "")) in CLASSES for part in parts)


def test_the_search_finds_what_it_should() -> None:
    found = asked(ast.parse(
        "if task.kind == 'x': ...\nkind in ('a', 'b')\nlabel != 'generation'\n"
        "match kind:\n    case 'a': ...\nkind is other\n{'generation': 1}[kind]\n"
        "isinstance(kind, Generation)\ntype(kind) is kinds.Generation\n"
        "kind.name in WRITTEN\nepisode.kind.name.startswith('gen')\n"
        "{'generation': 1, 'classification': 2}.get(name)\nkind.name == 'mine'\n"
        "match it:\n    case Generation(): ..."
    ))  # fmt: skip
    assert sorted(found) == [1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14]


def test_nobody_asks_for_a_kind_outside_of_its_file() -> None:
    found = [
        f"{path.relative_to(ROOT)}, line {line}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent != ROOT / "tasks" / "kinds"
        if path.relative_to(ROOT).as_posix() not in TABLES
        for line in asked(ast.parse(path.read_text("utf-8")))
    ]
    assert not found

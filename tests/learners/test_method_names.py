"""What a method is or can do, its class says: nothing asks for a method's name outside its file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import icl
from icl.learners.registry import home, methods

ROOT = Path(icl.__file__).parent
REGISTRY = "icl.learners.registry"  # where names lead to classes
# These words mean other things too: what is tuned, a kind of adapter, a choice of demonstrations,
# where a head begins, a format of tasks. Alone they are asked for only where a method is.
COMMON = {"lora", "knn", "prototypes", "metaicl"}
HOMES = {name: home(name) for name in methods()}


def says_method(node: ast.expr) -> bool:
    """Tell whether an expression is a method's name: ``method``, ``x.method``, ``x["method"]``."""
    if isinstance(node, ast.Name):
        return node.id.strip("_") == "method"
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_") == "method"
    if isinstance(node, ast.Subscript):
        return words([node.slice]) == ["method"]
    if isinstance(node, ast.Call):
        parts = [node.func, *node.args[:1]]
        return words(parts) == ["method"] or any(map(says_method, parts))
    return False


def words(nodes: Sequence[ast.expr | None]) -> list[str]:
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def is_fixed(node: ast.expr) -> bool:
    """Tell whether an expression is written out, or a constant of a module by its name."""
    if isinstance(node, ast.Name | ast.Attribute):
        return (node.id if isinstance(node, ast.Name) else node.attr).isupper()
    return bool(words([node])) or isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict)


class Asker(ast.NodeVisitor):
    """Collects the lines that ask which method they have to do with.

    Args:
        module: of the tree; what is told there it may ask for.
    """

    def __init__(self, module: str = "") -> None:
        self.lines: set[int] = set()
        self.foreign = {name for name, (where, _) in HOMES.items() if where != module}
        self.classes = {HOMES[name][1] for name in self.foreign}

    def note(self, node: ast.expr | ast.pattern, asks: bool) -> None:
        if asks:
            self.lines.add(node.lineno)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        asks = any(map(says_method, sides)) and any(map(is_fixed, sides))
        self.note(node, asks or bool(self.rare(words(sides))))

    def visit_Match(self, node: ast.Match) -> None:
        self.note(node.subject, says_method(node.subject))
        self.generic_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        self.note(node, bool(self.rare(words([node.value]))))

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in {"startswith", "endswith"}:
            self.note(node, says_method(called.value))
        elif isinstance(called, ast.Name) and called.id in {"isinstance", "issubclass"}:
            inside = [getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node.args[1])]
            self.note(node, not self.classes.isdisjoint(inside))
        else:
            self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        self.collection(node, words(node.keys))

    def visit_Tuple(self, node: ast.Tuple | ast.List | ast.Set) -> None:
        self.collection(node, words(node.elts))

    visit_List = visit_Set = visit_Tuple

    def collection(self, node: ast.expr, held: list[str]) -> None:
        self.note(node, bool(self.rare(held)) or len(self.foreign & set(held)) > 1)

    def rare(self, held: Sequence[str]) -> set[str]:
        return self.foreign.intersection(held) - COMMON


def asked(tree: ast.AST, module: str = "") -> list[int]:
    """Return the lines of a file that ask for a method that is told by another."""
    asker = Asker(module)
    asker.visit(tree)
    return sorted(asker.lines)


def found() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        if module != REGISTRY:
            for line in asked(ast.parse(path.read_text("utf-8")), module):
                yield f"{path.relative_to(ROOT.parent)}:{line}"


def test_nothing_asks_for_a_method_by_name() -> None:
    assert list(found()) == []


@pytest.mark.parametrize(
    "bad",
    [
        'if method == "maml": pass',
        'if learner.method != "lora": pass',
        'if row["method"] in ("mine", "yours"): pass',
        'if row.get("method") == "lora": pass',
        'if str(row.get("method")) == "lora": pass',
        "if self.method in WITHOUT_MODEL: pass",
        "if self.method not in names.WRITERS: pass",
        'if name == "in-context": pass',
        'HEADS = ("relation", "snail")',
        'KINDS = {"lora": 1, "prototypes": 2}',
        'STEPS = {"maml": 3}',
        'match method:\n    case "lora": pass',
        'match name:\n    case "zero-shot": pass',
        'if method.startswith("meta-"): pass',
        "isinstance(learner, LoraMAML)",
        "issubclass(kind, (methods.Majority, int))",
    ],
)
def test_a_question_for_a_name_is_found(bad: str) -> None:
    assert asked(ast.parse(bad)) != []


@pytest.mark.parametrize(
    "good",
    [
        'method = "in-context"',
        'make("majority", model)',
        'if params.tune == "lora": pass',
        'choice: Literal["all", "knn"]',
        "if record.method == other.method: pass",
        "if method in methods(): pass",
        "class Mine(LoraMAML): pass",
        "isinstance(learner, MetaLearner)",
    ],
)
def test_what_only_names_a_method_is_let_be(good: str) -> None:
    assert asked(ast.parse(good)) == []


def test_a_method_may_name_itself() -> None:
    tree = ast.parse('if name == "reptile": pass')
    assert asked(tree, HOMES["reptile"][0]) == []
    assert asked(tree, HOMES["maml"][0]) == [1]

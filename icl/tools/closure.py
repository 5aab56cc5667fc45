"""`code_of`: a hash of the code that a module's results hang on, and of nothing else.

It covers a module and all that it imports, at the top or within functions, and so on from there.
Each file enters as its syntax tree. Left out is what cannot change a result: comments, docstrings,
blank lines, where a file lies and what it is called, imports for type checkers alone, and
annotations of undecorated functions and of local variables. An import enters as the name that it
binds and the content of the file that it names, so two files that change places are noticed and a
file that moves is not. Names re-exported by a package of icl lead to where they are defined.

Followed are icl, a root's own package, and what lies outside of Python's library and
``site-packages``: somebody's own method with the modules beside it. Other packages enter by the
names that are imported, not by their versions, which stand in a run's ``environment.json``. What no
text says cannot be followed: modules imported by a computed name, data files that code reads. A
string that names a module of icl, ``"icl.room.module"`` or ``"icl.room.module:Class"``, counts as
an import.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_LIBRARY = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_NAMED = re.compile(r"(icl(?:\.\w+)+)(?::(\w+))?")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class _Import:
    """A name that an import binds: `attribute` of a module, or the module itself."""

    module: str
    attribute: str | None
    bound: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """A file: the hash of its tree without imports, and its imports, those that stand together."""

    tree: str
    runs: tuple[tuple[_Import, ...], ...]
    exported: Mapping[str, _Import]


@cache
def code_of(*roots: str) -> str:
    """Hash the code that modules' results hang on: 16 hexadecimal digits, on any machine the same.

    What a process has imported does not change while it runs: it is read once.

    Args:
        roots: dotted names of modules that are imported, or can be.
    """
    owned = frozenset({"icl", *(root.partition(".")[0] for root in roots)})
    todo = [place for root in roots for place in _with_parents(root, owned)]
    starts = [file for root in roots if (file := _file(root, owned)) is not None]
    hashes: dict[Path, str] = {}
    while todo:
        name, file = todo.pop()
        if file in hashes:
            continue
        told, met = _imports(name, file, owned)
        hashes[file] = _hash([_source(file).tree, told])
        todo += met
    return _hash([[hashes[file] for file in starts], sorted(hashes.values())])


def _imports(
    name: str, file: Path, owned: frozenset[str]
) -> tuple[list[list[str]], list[tuple[str, Path]]]:
    """Return what a file's imports bind, by content, and the modules and files that they lead to.

    Imports that stand together may stand in any order, unless two bind one name.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    met: list[tuple[str, Path]] = []
    told = []
    for run in _source(file).runs:
        lines = []
        for one in run:
            module, attribute = _absolute(one, package), one.attribute
            found = _target(module, attribute, owned)
            if found is None:
                lines.append(json.dumps([module, attribute, one.bound]))
                continue
            target, attribute = found
            path = _file(target, owned)
            assert path is not None
            lines.append(json.dumps([_source(path).tree, attribute, one.bound]))
            met += _with_parents(target, owned)
        names = {one.bound for one in run}
        told.append(lines if len(names) < len(run) or "*" in names else sorted(lines))
    return told, met


def _absolute(one: _Import, package: str) -> str:
    if not one.level:
        return one.module
    parts = package.split(".")
    return ".".join(part for part in (*parts[: len(parts) - one.level + 1], one.module) if part)


def _target(
    module: str, attribute: str | None, owned: frozenset[str], depth: int = 0
) -> tuple[str, str | None] | None:
    """Return the module that an import leads to and what it takes of it; None: not followed."""
    file = _file(module, owned)
    if attribute is None:
        return None if file is None else (module, None)
    if file is not None and file.name == "__init__.py" and attribute != "*" and depth < 8:
        again = _source(file).exported.get(attribute)
        if again is not None:  # the package hands it on
            found = _target(_absolute(again, module), again.attribute, owned, depth + 1)
            if found is not None:
                return found
    if _file(f"{module}.{attribute}", owned) is not None:
        return f"{module}.{attribute}", None
    return None if file is None else (module, attribute)


def _with_parents(name: str, owned: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield a module and the packages around it, which run before it, with their files.

    Those of icl only hand names on.
    """
    parts = name.split(".")
    first = len(parts) if parts[0] == "icl" else 1
    for end in range(first, len(parts) + 1):
        whole = ".".join(parts[:end])
        file = _file(whole, owned)
        if file is not None:
            yield whole, file


@cache
def _file(name: str, owned: frozenset[str]) -> Path | None:
    """Return the file of a module that is followed, else None."""
    top, *parts = name.split(".")
    file, folders = _top(top)
    places = [*folders, *([] if file is None else [file.parent])]
    if top not in owned and any(_is_foreign(place) for place in places):
        return None
    for part in parts:
        for folder in folders:
            package, module = folder / part / "__init__.py", folder / f"{part}.py"
            if package.is_file():
                file, folders = package, [package.parent]
                break
            if module.is_file():
                file, folders = module, []
                break
        else:
            return None
    return file


@cache
def _top(name: str) -> tuple[Path | None, list[Path]]:
    """Return the file of a module without a package, and where its own modules lie."""
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None) or find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None, []
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return file, [Path(folder) for folder in spec.submodule_search_locations or ()]


def _is_foreign(place: Path) -> bool:
    return not _INSTALLED.isdisjoint(place.parts) or any(
        place.is_relative_to(library) for library in _LIBRARY
    )


@cache
def _source(file: Path) -> _Source:
    """Read a file; one that is no Python source enters by its bytes."""
    content = file.read_bytes() if file.is_file() else b""
    shape = _Shape()
    try:
        if file.suffix != ".py":
            raise ValueError
        tree = ast.parse(content)
        shape.walk(tree)
    except (ValueError, SyntaxError, RecursionError):
        return _Source(hashlib.sha256(content).hexdigest(), (), {})
    exported = {
        one.bound: one
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for one in _bound(node)
    }
    return _Source(_hash("".join(shape.out)), tuple(map(tuple, filter(None, shape.runs))), exported)


class _Shape:
    """A syntax tree as text that no layout changes, the same for every version of Python."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.runs: list[list[_Import]] = []
        self._local = False

    def walk(self, node: Any) -> None:
        """Tell a node, a list of nodes, or a plain value."""
        if isinstance(node, list):
            self._list(node)
        elif isinstance(node, ast.Constant):
            self._constant(node.value)
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            before, self._local = self._local, not isinstance(node, ast.ClassDef)
            if self._local and not node.decorator_list:
                _strip(node)
            self._node(node)
            self._local = before
        elif isinstance(node, ast.AST):
            self._node(node)
        else:
            self.out.append(repr(node))

    def _node(self, node: ast.AST) -> None:
        self.out.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name != "ctx" and value is not None and value != []:  # the same before 3.13
                self.out.append(f"{name}=")
                self.walk(value)
        self.out.append(")")

    def _list(self, nodes: Sequence[Any]) -> None:
        run: list[_Import] = []
        self.out.append("[")
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                run += _bound(node)
                continue
            if self._does_nothing(node):
                continue
            self.runs.append(run)
            run = []
            if isinstance(node, ast.If) and _for_checkers(node.test):
                self._list(node.orelse)
            elif self._local and isinstance(node, ast.AnnAssign) and node.value is not None:
                self._node(ast.Assign([node.target], node.value))
            else:
                self.walk(node)
            self.out.append(",")
        self.runs.append(run)
        self.out.append("]")

    def _does_nothing(self, node: Any) -> bool:
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        named = self._local and isinstance(node, ast.AnnAssign) and node.value is None
        return named or isinstance(node, ast.Pass)

    def _constant(self, value: object) -> None:
        named = _NAMED.fullmatch(value) if isinstance(value, str) else None
        if named is not None and _file(named[1], frozenset({"icl"})) is not None:
            self.runs.append([_Import(named[1], named[2], "")])
            self.out.append("a module")
        else:
            self.out.append(repr(value))


def _strip(function: ast.AST) -> None:
    """Take the annotations off a function, which nothing reads where no decorator does."""
    assert isinstance(function, _FUNCTIONS)
    function.returns = None
    own = function.args
    for one in (*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg):
        if one is not None:
            one.annotation = None


def _bound(node: ast.Import | ast.ImportFrom) -> list[_Import]:
    if isinstance(node, ast.Import):
        return [_Import(alias.name, None, alias.asname or alias.name) for alias in node.names]
    return [
        _Import(node.module or "", alias.name, alias.asname or alias.name, node.level)
        for alias in node.names
    ]


def _for_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _hash(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

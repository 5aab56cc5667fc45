"""The rooms import one way only, no file leads back to itself, and importing icl stays quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import icl

ROOT = Path(icl.__file__).parent
TOP = {"__init__", "__main__", "version", "errors", "api", "sklearn"}
# What each room may import beside itself, `icl.errors` and `icl.version`. A room stands below those
# that may import it: docs/architecture.md has the same table.
ROOMS: dict[str, set[str]] = {"tools": set(), "metrics": set()}
ROOMS["processes"] = {"tools"}
ROOMS["tasks"] = {"tools", "metrics"}
ROOMS["episodes"] = ROOMS["tasks"] | {"tasks", "processes"}
ROOMS["models"] = {"tools", "processes", "tasks"}
ROOMS["prompting"] = ROOMS["episodes"] | {"episodes", "models"}
ROOMS["learners"] = ROOMS["prompting"] | {"prompting"}
ROOMS["training"] = ROOMS["learners"] | {"learners"}
ROOMS["runs"] = ROOMS["training"] | {"training", "metrics"}
ROOMS["evaluation"] = ROOMS["runs"] | {"runs"}
ROOMS["reporting"] = ROOMS["evaluation"] | {"evaluation"}
ROOMS["experiments"] = ROOMS["reporting"] | {"reporting"}
ROOMS["exchange"] = ROOMS["experiments"] | {"experiments"}
ROOMS["labelling"] = ROOMS["exchange"] | {"exchange"}
ROOMS["cli"] = ROOMS["labelling"] | {"labelling", "api"}
HEAVY = {"torch", "transformers", "datasets", "sklearn", "scipy", "matplotlib", "peft", "pandas"}
# One idea in two rooms may have one name.
TWICE = {
    "registry": "classes by the names that files give them",
    "base": "what a room's classes have in common",
    "config": "the part of an experiment's YAML that a room reads",
    "schema": "the part of an experiment's YAML that a room reads",
    "family": "a family of tasks, and its definition",
    "task": "a task, and its definition",
    "lora": "low-rank factors, and learning them",
    "maml": "the algorithm, and the method over LoRA factors",
    "maml_plus_plus": "the algorithm, and the method over LoRA factors",
    "meta_sgd": "the algorithm, and the method over LoRA factors",
    "imaml": "the algorithm, and the method over LoRA factors",
    "reptile": "the algorithm, and the method over LoRA factors",
    "transductive": "the heads, and the methods over embeddings",
    "reliability": "the metric, and the figures of a run",
    "worst": "the worst episodes, and how they are shown",
    "episodes": "the episodes of an experiment, and the commands about episodes",
}


@cache
def modules() -> Mapping[str, Path]:
    """Return the files of icl by the dotted names of their modules."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if "_shipped" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str) -> Iterator[str]:
    """Yield the modules of icl that a module imports, for type checkers and in functions too."""
    for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the whole name"
            names = [
                full if (full := f"{node.module}.{alias.name}") in modules() else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        yield from (found for found in names if found in modules() and found != name)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def test_every_file_lies_in_a_room() -> None:
    assert {room_of(name) for name in modules()} <= ROOMS.keys() | TOP


def test_rooms_import_only_what_stands_below_them() -> None:
    free = {"errors", "version"}
    assert not [other for name in free for other in imported(f"icl.{name}")]
    upwards = [
        f"{name} imports {other}"
        for name in modules()
        if room_of(name) not in TOP
        for other in imported(name)
        if room_of(other) not in free | {room_of(name)} | ROOMS[room_of(name)]
    ]
    assert not upwards, upwards


def test_no_room_stands_below_itself() -> None:
    for room, below in ROOMS.items():
        assert all(room not in ROOMS[other] for other in below if other in ROOMS), room


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of more than one node that all lead to each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += graph[node]
        reach[start] = seen
    found: list[set[str]] = []
    for node in graph:
        circle = {other for other in reach[node] if node in reach[other]}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def test_no_file_leads_back_to_itself() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert circles({name: set(imported(name)) for name in modules()}) == []


def test_one_name_is_one_idea() -> None:
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        if path.name != "__init__.py":
            places.setdefault(path.stem, []).append(name)
    twice = {stem: names for stem, names in places.items() if len(names) > 1}
    assert {stem: names for stem, names in twice.items() if stem not in TWICE} == {}
    assert TWICE.keys() <= twice.keys()


@pytest.mark.parametrize("module", ["icl", "icl.cli.main", "icl.tasks", "icl.episodes"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())

"""The rooms import one way only, and importing icl stays quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import icl

ROOT = Path(icl.__file__).parent
# What each room may import, beside itself, the package's own name and the small tools.
TOOLS = {
    "cache", "closure", "errors", "folders", "interrupt", "kinds", "processes", "progress",
    "shipped", "version", "yamlfile",
}  # fmt: skip
ROOMS: dict[str, set[str]] = {"tasks": set(), "metrics": set()}
ROOMS["episodes"] = {"tasks"}
ROOMS["models"] = {"tasks"}
ROOMS["prompting"] = {"tasks", "episodes", "models"}
ROOMS["learners"] = {"tasks", "episodes", "models", "prompting"}
ROOMS["training"] = ROOMS["learners"] | {"learners"}
ROOMS["evaluation"] = ROOMS["training"] | {"training", "metrics"}
ROOMS["reporting"] = ROOMS["evaluation"] | {"evaluation"}
# What stands above all rooms and may import any of them.
ABOVE = {"__init__", "__main__", "amounts", "api", "cli", "comparison", "config", "doctor",
         "exchange", "experiment", "export", "forecast", "labelling", "merge", "model_card",
         "overrides", "prompt_study", "sklearn", "trackers", "trained", "work"}  # fmt: skip
HEAVY = {"torch", "transformers", "datasets", "sklearn", "scipy", "matplotlib", "peft", "pandas"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts)


def part_of(path: Path) -> str:
    """Return the room or the single file that a module belongs to: ``models``, ``cache``."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_parts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names = [f"{node.module}.{a.name}" if node.module == "icl" else str(node.module)
                     for a in node.names]  # fmt: skip
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "icl" and len(parts) > 1:
                yield parts[1]


def test_every_module_belongs_to_a_known_room() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__"}
    assert parts <= TOOLS | ROOMS.keys() | ABOVE


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_imports_what_comes_after_it(path: Path) -> None:
    part = part_of(path)
    if part in ABOVE:
        return
    allowed = TOOLS | {part, "__version__"} | ROOMS.get(part, set())
    assert set(imported_parts(path)) <= allowed


@pytest.mark.parametrize("module", ["icl", "icl.cli.main", "icl.tasks", "icl.episodes"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())

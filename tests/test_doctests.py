"""Examples in docstrings hold."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import icl

ROOT = Path(icl.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_examples_in_docstrings_hold() -> None:
    wrong, tried = [], 0
    for path in sorted(ROOT.rglob("*.py")):
        if "_shipped" in path.parts or ">>> " not in path.read_text("utf-8"):
            continue
        name = ".".join(("icl", *path.relative_to(ROOT).with_suffix("").parts))
        module = import_module(name.removesuffix(".__init__"))
        failed, here = doctest.testmod(module, optionflags=FLAGS)
        tried += here > 0
        if failed or not here:
            wrong.append(name)
    assert (wrong, tried > 0) == ([], True)

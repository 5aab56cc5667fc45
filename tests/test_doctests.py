"""Examples in docstrings hold."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import icl

ROOT = Path(icl.__file__).parent
MODULES = (path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts)
SHOWING = sorted(path for path in MODULES if ">>> " in path.read_text("utf-8"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("path", SHOWING, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_examples_in_docstrings_hold(path: Path) -> None:
    name = ".".join(("icl", *path.relative_to(ROOT).with_suffix("").parts))
    failed, tried = doctest.testmod(
        import_module(name.removesuffix(".__init__")), optionflags=FLAGS
    )
    assert (failed, tried > 0) == (0, True)

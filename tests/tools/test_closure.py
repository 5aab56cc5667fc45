"""What enters the hash of a module's code, and what does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import pytest

from icl.learners.registry import home, methods
from icl.tools import closure
from icl.tools.closure import code_of

_NUMBERS = count()
Files = Mapping[str, str]
PACKAGE = {
    "__init__.py": "from .inner import tell\n",
    "start.py": """
from typing import TYPE_CHECKING
import numpy as np
from PKG import tell
from PKG.inner import other as more
if TYPE_CHECKING:
    from PKG.apart import go as gone

def go(x):
    from PKG.deep.late import late
    return tell(x) + more(x) + late(x)
""",
    "inner.py": "def tell(x):\n    return x + 1\n\ndef other(x):\n    return x + 2\n",
    "twin.py": "def tell(x):\n    return x - 1\n\ndef other(x):\n    return x - 2\n",
    "deep/__init__.py": "",
    "deep/late.py": "from ..inner import tell\nfrom .. import twin\n\ndef late(x):\n    pass\n",
    "apart.py": "import PKG.start\n",
}


def edit(file: str, old: str, new: str) -> dict[str, str]:
    assert old in PACKAGE[file]
    return {file: PACKAGE[file].replace(old, new)}


MOVED = {
    "inner.py": "",
    "deep/core.py": PACKAGE["inner.py"],
    "__init__.py": "from .deep.core import tell\n",
    **edit("start.py", "PKG.inner", "PKG.deep.core"),
    **edit("deep/late.py", "..inner", ".core"),
}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files], str]:
    """Hash the module ``start`` of a package, each time of another name in another place."""

    def make(changes: Files) -> str:
        folder, name = tmp_path / f"{next(_NUMBERS)}", f"icl_test_{next(_NUMBERS)}"
        for file, text in (PACKAGE | dict(changes)).items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PKG", name), "utf-8")
        monkeypatch.syspath_prepend(folder)
        return code_of(f"{name}.start")

    return make


@pytest.mark.parametrize(
    "change",
    [
        {},
        edit("inner.py", "    return x + 1", '    """Say."""\n\n    # so\n    return (x  +  1)'),
        edit("inner.py", "def tell(x)", "def tell(x: float) -> float"),
        edit("inner.py", "    return x + 1", "    y: int\n    pass\n    return x + 1"),
        edit("start.py", "from PKG import tell\n", "from PKG.inner import tell\n"),
        edit("start.py", "from PKG.inner import other as more", "from .inner import other as more"),
        edit("start.py", "import go as gone", "import went"),
        edit("apart.py", "import PKG.start", "went = 1"),
        MOVED,
    ],
)
def test_what_cannot_change_a_result_changes_no_hash(
    code: Callable[[Files], str], change: Files
) -> None:
    assert code(change) == code({})


@pytest.mark.parametrize(
    "change",
    [
        edit("inner.py", "x + 2", "x + 3"),
        edit("twin.py", "x - 2", "x - 3"),
        edit("deep/late.py", "pass", "return 1"),
        edit("start.py", "def go(x)", "def go(x=1)"),
        edit("start.py", "from PKG import tell", "from PKG.twin import tell"),
        edit("start.py", "other as more", "tell as more"),
        edit("start.py", "import numpy as np", "import scipy as np"),
        edit("deep/__init__.py", "", "import os\nos.environ['X'] = '1'\n"),
        {"inner.py": PACKAGE["twin.py"], "twin.py": PACKAGE["inner.py"]},
    ],
)
def test_what_may_change_a_result_changes_the_hash(
    code: Callable[[Files], str], change: Files
) -> None:
    assert code(change) != code({})


def reached(*roots: str) -> set[str]:
    """Return the files of icl that roots hang on, as ``room/module``."""
    root, owned = Path(closure.__file__).parents[1], frozenset({"icl"})
    todo = [place for name in roots for place in closure._with_parents(name, owned)]
    found: set[Path] = set()
    while todo:
        name, file = todo.pop()
        if file not in found:
            found.add(file)
            todo += closure._imports(name, file, owned)[1]
    return {path.relative_to(root).with_suffix("").as_posix() for path in found}


@pytest.mark.parametrize("method", methods())
def test_a_method_hangs_on_no_other_room_and_on_few_other_methods(method: str) -> None:
    found = reached(home(method)[0])
    assert {"tasks/template", "tasks/task"} <= found  # how an example is shown
    assert not {"__init__", "learners/__init__", "learners/registry"} & found
    assert not [
        name for name in found if name.startswith(("evaluation", "reporting", "cli", "lab"))
    ]
    assert ("learners/embedding/setfit" in found) == (method == "setfit")


def test_the_later_of_two_imports_of_one_name_counts(code: Callable[[Files], str]) -> None:
    named = ["from PKG.inner import tell\n", "from PKG.twin import tell\n"]
    starred = ["from PKG.inner import *\n", "from PKG.twin import *\n"]
    for imports in (named, starred):
        one, other = ("".join(x) + PACKAGE["start.py"] for x in (imports, imports[::-1]))
        assert code({"start.py": one}) != code({"start.py": other})


def test_who_takes_methods_by_name_hangs_on_all_of_them() -> None:
    found = reached("icl.learners.registry")
    assert {home(method)[0].removeprefix("icl.").replace(".", "/") for method in methods()} <= found


def test_hashing_imports_nothing_heavy_and_is_quick() -> None:
    source = "\n".join([
        "import sys, time",
        "from icl.tools.closure import code_of",
        "start = time.process_time()",
        "code_of('icl.learners.prompting.in_context', 'icl.training.trainer',",
        " 'icl.models.loading.load')",
        "assert time.process_time() - start < 2",
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)",
    ])  # fmt: skip
    subprocess.run([sys.executable, "-c", source], check=True)

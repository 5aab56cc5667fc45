"""Somebody's own source: found from the definition, one like any other, told when it cannot be."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import icl
from icl.errors import IclError
from icl.tasks import load_family
from tests.tasks.helpers import write

SOURCE = '''
from icl.tasks import Source

class Counted(Source):
    """So many rows of each label."""
    count: int = 2
    def rows(self, wanted):
        for number in range(2 * self.count):
            label = wanted.labels[number % 2]
            yield number, {"text": f"{wanted.split} {wanted.task} {number}", "label": label}
'''
COLUMNS = {"label": "label", "fields": {"text": "text"}}


def load(folder: Path, text: str = SOURCE, **fields: Any) -> list[tuple[str, str, str]]:
    (folder / "counted.py").write_text(text, "utf-8")
    source = {"type": "counted.py:Counted", "columns": COLUMNS, **fields}
    path = write(folder, sources=[source])
    examples = load_family(str(path)).load("mood", "en").examples
    return [(e.id, e.text, e.label) for e in examples]


def test_it_is_seen_from_the_definition_and_takes_its_own_fields(tmp_path: Path) -> None:
    assert load(tmp_path, count=1) == [
        ("en/all/1", "all mood 0", "good"),
        ("en/all/2", "all mood 1", "bad"),
    ]


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("", {}, "field 'sources.0.type': The source .*has no source 'Counted'"),
        ("def broken(:", {}, "field 'sources.0.type': The source .*cannot be imported: "),
        (SOURCE, {"type": "countd.py:Counted"}, "cannot be imported: .*countd.py"),
        (SOURCE, {"type": "directry"}, "No source 'directry'. Did you mean 'directory'"),
        (SOURCE, {"type": 3}, "field 'sources.0.type': No source '3'"),
        (SOURCE, {"cuont": 3}, "field 'sources.0.cuont': no such field. Did you mean 'count'"),
        (SOURCE, {"count": "x"}, "field 'sources.0.count': Input should be a valid integer"),
        (SOURCE, {"columns": None}, "field 'sources.0': `columns` is missing; say which"),
        (
            SOURCE.replace("count: int = 2", "count: int"),
            {},
            "field 'sources.0.count': this field is missing; add it",
        ),
        (
            SOURCE.replace("yield", "raise OSError('no tape')\n            yield"),
            {},
            "counted.py:Counted', en, all failed after row 0: .*no tape.*; mend its code",
        ),
        (SOURCE.replace("yield number,", "yield"), {}, ", after row 0: not a number and a mapping"),
        (
            SOURCE.replace('"label": label', '"lable": label'),
            {},
            "en, all, row 0: the column 'label' is missing. Did you mean 'lable'",
        ),
    ],
)
def test_what_is_wrong_with_it_is_told(
    tmp_path: Path, text: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(IclError, match=said) as told:
        load(tmp_path, text, **fields)
    assert "\n" not in str(told.value)


def test_nothing_asks_which_source_it_has_before_it() -> None:
    asked = []
    for path in Path(icl.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found = False
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                names = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                found = any(name.endswith("Source") and name != "Source" for name in names)
            elif isinstance(node, ast.Compare):
                found = ast.unparse(node.left) == "source.type"
            if found:
                asked.append(f"{path.name}: {ast.unparse(node)}")
    assert asked == []

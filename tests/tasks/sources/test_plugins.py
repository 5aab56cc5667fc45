from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from icl.errors import IclError
from icl.tasks import load_family
from tests.tasks.helpers import write

MODULE = """\
def rows(*, language, split, task, times=1, fail_after=None):
    for number in range(2 * times):
        if number == fail_after:
            raise RuntimeError("the tap ran dry")
        yield {"text": f"{task} {language} {split} {number}", "label": ["good", "bad"][number % 2]}

def words(**_):
    return ["no", "rows"]

constant = 1
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers sources, as pip would lay it out."""
    (tmp_path / "acme_rows.py").write_text(MODULE)
    info = tmp_path / "acme_rows-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rows\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[icl.sources]\nacme = acme_rows:rows\nwords = acme_rows:words\n"
        "constant = acme_rows:constant\ngone = acme_gone:rows\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def load(folder: Path, name: str, **options: Any) -> list[tuple[str, str]]:
    columns = {"label": "label", "fields": {"text": "text"}}
    source = {"type": "plugin", "name": name, "columns": columns, "options": options}
    path = write(folder, sources=[source])
    return [(e.id, e.text) for e in load_family(str(path)).load("mood", "en").examples]


def test_another_package_can_register_a_source(tmp_path: Path) -> None:
    assert load(tmp_path, "acme") == [("en/all/1", "mood en all 0"), ("en/all/2", "mood en all 1")]
    assert len(load(tmp_path, "acme", times=3)) == 6


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("acmee", {}, "registers the source 'acmee' .*Did you mean 'acme'"),
        ("gone", {}, "cannot be loaded.*acme_gone"),
        ("constant", {}, "is no function"),
        ("words", {}, "row 1: not a mapping"),
        ("acme", {"fail_after": 1}, "failed after row 1: .*the tap ran dry"),
        ("acme", {"time": 1}, "unexpected keyword argument 'time'"),
    ],
)
def test_faults_of_a_plugin_are_told(
    tmp_path: Path, name: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(IclError, match=expected):
        load(tmp_path, name, **options)

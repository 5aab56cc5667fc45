from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from icl.errors import IclError
from icl.tools.yamlfile import load_yaml, read_yaml


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float
    steps: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner
    many: Mapping[str, Inner] = {}


def error(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(IclError) as caught:
        load_yaml(path, Outer)
    return str(caught.value).removeprefix(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ninner:\n  rate: fast\n", "/x.yaml, line 3, field 'inner.rate':"),
        ("name: a\ninner:\n  rate: 1\n  stesp: 2\n", "line 4, field 'inner.stesp': no such field"),
        ("name: a\ninner: {rate: 1}\nmany:\n  x: {rat: 1}\n", "Did you mean 'rate'?"),
        ("name: a\n", "line 1, field 'inner': this field is missing"),
        ("name: a\ninner:\n  steps: 2\n", "line 2, field 'inner.rate': this field is missing"),
        ("name: a\nname: b\n", "line 2: the key 'name' stands twice"),
        ("name: [a\n", "not valid YAML"),
        ("name: a\n\tinner: 1\n", "line 2, column 1: not valid YAML"),
        (b"name: \xff\n", "not UTF-8"),
        ("", "line 1"),
        ("- 1\n", "line 1"),
    ],
)
def test_errors_name_file_line_field_and_mend(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in error(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"There is no file .*gone\.yaml"):
        load_yaml(tmp_path / "gone.yaml", Outer)


def test_norwegian_is_not_false(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("languages: [en, no]\nno: 1\n")
    assert read_yaml(path)[0] == {"languages": ["en", "no"], "no": 1}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("y") / "x.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_yaml(path, Outer)
    except IclError as caught:
        assert "\n" not in str(caught).removeprefix(str(path))

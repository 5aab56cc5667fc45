"""`--set key=value`: typed, told by path, checked like the file itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.errors import IclError
from icl.experiments.config import load_config
from icl.tools.overrides import assign, nested, parse
from tests.experiments.test_config import TEXT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner),
    max_leaves=5,
)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4), VALUES)
def test_what_is_set_is_what_is_found_and_the_rest_stays(path: list[str], value: Any) -> None:
    before = {"other": [1, {"z": 2}]}
    text = f"{'.'.join(path)}={json.dumps(value)}"  # JSON is YAML too
    after, places = assign(before, {(): (Path("f"), 1)}, text)
    found: Any = after
    for part in path:
        found = found[part]
    assert found == value
    assert after["other"] == before["other"] == [1, {"z": 2}]
    assert places[tuple(path)][1] == 0


def test_items_of_lists_are_counted_from_zero() -> None:
    after, _ = assign({"shots": [1, 4]}, {}, "shots.1=8")
    assert after == {"shots": [1, 8]}
    for wrong in ("shots.2=8", "shots.x=8"):
        with pytest.raises(IclError, match=r"no item of a list of 2"):
            assign({"shots": [1, 4]}, {}, wrong)
    with pytest.raises(IclError, match=r"no fields in 3"):
        assign({"ways": 3}, {}, "ways.x=1")


def test_values_are_typed_as_in_yaml_files() -> None:
    assert parse("a=1e-3")[1] == "1e-3"  # YAML 1.1; pydantic makes it a number where one is due
    assert parse("a=no")[1] == "no"
    assert parse("a=true")[1] is True
    assert parse("a=")[1] is None
    assert nested(["a.b=1", "a.c=x", "a.b=2"]) == {"a": {"b": 2, "c": "x"}}
    for wrong in ("a", "=1", "a..b=1", "a=[1"):
        with pytest.raises(IclError, match="--set"):
            parse(wrong)


def test_an_experiment_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(TEXT)
    sets = ["learners.lora.steps=3", "learners.lora.learning_rate=1e-3", "episodes.shots=[2]",
            "learners.new.method=zero-shot", "seed=7",
            "learners.fomaml.training.steps=9"]  # fmt: skip
    found = load_config(path, sets).resolved()
    assert found["learners"]["lora"]["steps"] == 3
    assert found["learners"]["lora"]["learning_rate"] == 1e-3
    assert found["episodes"]["shots"] == [2]
    assert found["seed"] == 7
    assert found["learners"]["fomaml"]["training"]["steps"] == 9
    assert list(found["learners"]) == ["majority", "lora", "fomaml", "new"]
    assert load_config(path).resolved()["learners"]["lora"]["steps"] == 10


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("learners.lora.stps=3", r"field 'learners.lora.stps'.*Did you mean 'steps'"),
        ("learners.lra.steps=3", r"no learner 'lra'. Did you mean 'lora'"),
        ("learners.lora.method=loar", r"Did you mean 'lora'"),
        ("episode.ways=3", r"field 'episode': no such field. Did you mean 'episodes'"),
        ("episodes.wasy=3", r"field 'episodes.wasy': no such field. Did you mean 'ways'"),
        ("episodes.ways=many", r"field 'episodes.ways'"),
        ("learners.fomaml.training.stepz=1", r"Did you mean 'steps'"),
    ],
)
def test_a_fault_names_the_option_and_the_field(tmp_path: Path, assignment: str, said: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(TEXT)
    with pytest.raises(IclError, match=said) as told:
        load_config(path, [assignment])
    assert str(told.value).startswith(f"--set {assignment}")


def test_a_fault_of_the_file_still_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(TEXT.replace("steps: 10", "stps: 10"))
    with pytest.raises(IclError, match=r"e\.yaml, line 22, field 'learners\.lora\.stps'"):
        load_config(path, ["seed=3"])

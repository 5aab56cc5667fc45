"""Which model a learner was on: told by the roster, and told apart where runs meet."""

from __future__ import annotations

from pathlib import Path

import icl
from icl.runs.used_models import UsedModel, joined, used_models

GOLDEN = Path(__file__).parent.parent / "golden" / "run"


def test_an_older_folder_names_its_one_model() -> None:
    found = icl.open_run(GOLDEN)
    assert {model.label for model in found.models.values()} == {"tiny/llama"}
    assert found.summary.models == {}
    rows = [{"name": "a", "model": "x"}]
    assert used_models(rows, {"model": {"name": "/home/me/model"}})["a"].label == "model"
    assert used_models(rows, {}) == {}


def test_a_learner_that_needs_no_model_is_on_none() -> None:
    told = {"label": "llm", "name": "some/llm"}
    rows = [{"name": "a", "model": "x", "on": told}, {"name": "b", "model": "x", "on": None}]
    assert used_models(rows, {}) == {"a": UsedModel("llm", "some/llm", "x")}


def test_models_of_several_runs_have_a_label_each() -> None:
    first = {"a": UsedModel("llm", "some/llm", "1"), "b": UsedModel("small", "some/small", "2")}
    second = {"c": UsedModel("llm", "other/llm", "3"), "d": UsedModel("tiny", "some/small", "2")}
    one, two = joined([("x", first), ("y", second)])
    assert {name: model.label for name, model in (one | two).items()} == {
        "a": "x: llm", "b": "small", "c": "y: llm", "d": "small",
    }  # fmt: skip


def test_folders_without_identities_go_by_names() -> None:
    old = {"a": UsedModel("some/llm", "some/llm")}
    again = {"b": UsedModel("some/llm", "some/llm")}
    one, two = joined([("x", old), ("y", again)])
    assert one["a"] == two["b"] == UsedModel("some/llm", "some/llm")

"""What rows mean: labels, options, columns inside columns, ids, filters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl.errors import IclError
from icl.tasks.kinds.generation import Generation
from icl.tasks.kinds.multiple_choice import MultipleChoice
from icl.tasks.loaded import Task
from tests.tasks.helpers import BASE, family, source

MOOD = BASE["tasks"]["mood"]
CHOICE = {
    "kind": "multiple_choice",
    "labels": ["A", "B"],
    "label_map": {0: "A", 1: "B"},
    "template": {"input": "{{ text }}\nA {{ A }}\nB {{ B }}"},
}


def load(folder: Path, rows: list[dict[str, Any]], task: Any = MOOD, **columns: Any) -> Task:
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    columns = {"label": "label", "fields": {"text": "text"}} | columns
    toy = family(folder, sources=source(columns=columns), tasks={"mood": task})
    return toy.load("mood", "en")


def test_labels_are_mapped_from_numbers_truths_and_words(tmp_path: Path) -> None:
    task = MOOD | {"label_map": {1: "good", "true": "good", "0": "bad"}}
    values = [1, "1", True, 0, "bad"]
    rows = [{"text": f"t{i}", "label": value} for i, value in enumerate(values)]
    assert [e.label for e in load(tmp_path, rows, task).examples] == [
        "good", "good", "good", "bad", "bad",
    ]  # fmt: skip


def test_rows_with_skipped_labels_are_left_out_and_ids_do_not_move(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": -1}, {"text": "b", "label": "bad"}]
    task = load(tmp_path, rows, MOOD | {"skip": [-1]})
    assert [e.parallel_id for e in task.examples] == ["all/2"]


def test_columns_reach_inside_and_lists_of_words_are_joined(tmp_path: Path) -> None:
    rows = [{"text": ["two", "words"], "meta": {"label": ["good"]}}]
    task = load(tmp_path, rows, label="meta.label.0")
    assert [(e.text, e.label) for e in task.examples] == [("two words", "good")]


def test_ids_may_stand_in_several_columns(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "bad", "page": "p", "n": n} for n in (1, 2)]
    task = load(tmp_path, rows, id=["page", "n"])
    assert [e.parallel_id for e in task.examples] == ["all/p/1", "all/p/2"]


@pytest.mark.parametrize("label", [1, "B", "no"])
@pytest.mark.parametrize("listed", [True, False])
def test_options_stand_under_the_labels_names(tmp_path: Path, label: Any, listed: bool) -> None:
    row = {"text": "well?", "label": label, "o": ["yes", "no"], "x": "yes", "y": "no"}
    task = load(tmp_path, [row], CHOICE, options="o" if listed else ["x", "y"])
    (example,) = task.examples
    assert (example.fields, example.label) == ({"text": "well?", "A": "yes", "B": "no"}, "B")
    assert task.template.render(example.fields) == "well?\nA yes\nB no"


def test_generation_keeps_the_reference_text(tmp_path: Path) -> None:
    task = {"kind": "generation", "metrics": ["exact_match"], "template": {"input": "{{ text }}"}}
    found = load(tmp_path, [{"text": "1+1", "label": 2}], task)
    assert (found.kind, found.labels) == (Generation(metrics=("exact_match",)), ())
    assert [e.label for e in found.examples] == ["2"]


def test_where_keeps_the_rows_of_a_language_and_split(tmp_path: Path) -> None:
    rows = [
        {"text": f"{language} {part}", "label": "good", "lang": language, "part": part}
        for language in ("en", "de")
        for part in ("train", "test")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    columns = {"label": "label", "fields": {"text": "text"}}
    where = {"lang": "{language}", "part": "{split}"}
    toy = family(tmp_path, data=["train", "test"], sources=source(columns=columns, where=where))
    assert [(e.id, e.text) for e in toy.load("mood", "de").examples] == [
        ("de/train/1", "de train"),
        ("de/test/1", "de test"),
    ]
    toy = family(
        tmp_path,
        data=["train", "test"],
        sources=source(columns=columns, where={"Part": "{split}"}),
    )
    with pytest.raises(IclError, match=r"row 1: the column 'Part' is missing. Did you mean 'part'"):
        toy.load("mood", "de")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"label": "good"}, "row 1: the column 'text' is missing"),
        ({"text": None, "label": "good"}, "column 'text' is missing; give it a value"),
        ({"text": {"a": 1}, "label": "good"}, "holds a dict, not a text"),
        ({"text": "\u3000 \n", "label": "good"}, "field 'text' is empty"),
        ({"text": "\ud800", "label": "good"}, "lone surrogate"),
        ({"text": "a\0b", "label": "good"}, "zero byte"),
        ({"text": "a", "label": "godo"}, "label 'godo' is not in .* Did you mean 'good'"),
        ({"text": "a", "label": True}, "label 'true' is not in the definition"),
        ({"text": "a", "label": ""}, "label '' is not in the definition"),
    ],
)
def test_faults_in_a_row_are_told(tmp_path: Path, row: Any, expected: str) -> None:
    with pytest.raises(IclError, match=rf"rows.jsonl, row 1: .*{expected}|{expected}"):
        load(tmp_path, [row])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"o": ["yes"], "label": 0}, "there are 1 options and 2 labels"),
        ({"o": ["yes", "yes"], "label": 0}, "options 'A' and 'B' are the same"),
        ({"o": ["caf\u00e9", "cafe\u0301 "], "label": "cafe\u0301 "}, "'A' and 'B' are the same"),
        ({"o": ["yes", " "], "label": 0}, "field 'option B' is empty"),
        ({"o": "yes", "label": 0}, "holds no list of options"),
        ({"o": ["yes", "no"], "label": 2}, "answer '2' is neither a label nor an option"),
    ],
)
def test_faults_in_options_are_told(tmp_path: Path, row: Any, expected: str) -> None:
    with pytest.raises(IclError, match=rf"rows.jsonl, row 1: .*{expected}"):
        load(tmp_path, [{"text": "well?"} | row], CHOICE, options="o")


def test_an_empty_id_is_told(tmp_path: Path) -> None:
    with pytest.raises(IclError, match="row 1: the id is empty"):
        load(tmp_path, [{"text": "a", "label": "bad", "id": ""}], id="id")


def test_incomplete_rows_are_refused_unless_they_are_to_be_left_out(tmp_path: Path) -> None:
    rows = [{"text": t, "label": x} for t, x in (("a", "bad"), ("", "bad"), (None, "good"))]
    with pytest.raises(IclError, match=r"rows\.jsonl, row 2: the field 'text' is empty"):
        load(tmp_path, rows)
    task = load(tmp_path, rows, MOOD | {"incomplete": "skip"})
    assert [e.text for e in task.examples] == ["a"]
    with pytest.raises(IclError, match=r"row 4: the label 'meh'"):  # a wrong label is no gap
        load(tmp_path, [*rows, {"text": "b", "label": "meh"}], MOOD | {"incomplete": "skip"})


def test_rows_with_equal_options_are_refused_unless_they_are_to_be_left_out(tmp_path: Path) -> None:
    rows = [{"text": "t", "label": 0, "one": "x", "two": two} for two in "xy"]
    with pytest.raises(IclError, match="row 1: the options 'A' and 'B' are the same"):
        load(tmp_path, rows, CHOICE, options=["one", "two"])
    task = load(tmp_path, rows, CHOICE | {"incomplete": "skip"}, options=["one", "two"])
    assert (task.kind, [e.fields["B"] for e in task.examples]) == (MultipleChoice(), ["y"])


def test_a_domain_is_no_part_of_the_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "bad", "from": "travel"}]
    (example,) = load(tmp_path, rows, domain="from").examples
    assert (example.domain, example.text) == ("travel", "a")
    with pytest.raises(IclError, match="row 1: the field 'domain' is empty"):
        load(tmp_path, [rows[0] | {"from": " "}], domain="from")


def test_a_label_with_one_example_is_known_by_file_and_row(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "good" if i != 3 else "bad"} for i in range(5)]
    assert load(tmp_path, rows).lone == {"bad": f"{tmp_path / 'rows.jsonl'}, row 4"}


def test_rows_with_another_number_of_options_can_be_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": 0, "choices": list("xyz"[:n])} for n in (2, 3, 1)]
    with pytest.raises(IclError, match=r"row 2: there are 3 options and 2 labels; .*incomplete"):
        load(tmp_path, rows, CHOICE, options="choices")
    task = load(tmp_path, rows, CHOICE | {"incomplete": "skip"}, options="choices")
    assert [e.fields["text"] for e in task.examples] == ["t2"]

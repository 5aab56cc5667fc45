from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from icl.errors import IclError
from icl.tasks import load_family
from icl.tasks.sources.base import Wanted
from icl.tasks.sources.lm_eval import LmEvalSource
from tests.tasks.helpers import write

DOCUMENTS = [
    {"q": "Is ice cold", "passage": "P1", "label": 1, "options": {"text": ["x", "y"]}, "key": "y"},
    {"q": "Is fire cold", "passage": "P2", "label": 0, "options": {"text": ["v", "w"]}, "key": "v"},
]
BOOLEAN = {
    "task": "toy",
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "training_split": None,
    "validation_split": "validation",
    "doc_to_text": "{{passage}}\nQuestion: {{q}}?\nAnswer:",
    "doc_to_target": "label",
    "doc_to_choice": ["no", "yes"],
    "metric_list": [{"metric": "acc"}],
    "metadata": {"version": 2.0},
}


def make(folder: Path, name: str = "toy.yaml", extra: str = "", **changes: Any) -> Path:
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(d) + "\n" for d in DOCUMENTS))
    kwargs = {"data_files": {"validation": str(data)}}
    task = BOOLEAN | {"dataset_kwargs": kwargs} | changes
    path = folder / name
    path.write_text(yaml.safe_dump({k: v for k, v in task.items() if v is not ...}) + extra)
    return path


def rows(path: Path, part: str = "validation") -> list[Any]:
    source = LmEvalSource(type="lm-eval", root=path.parent, file=path.name)
    return [dict(row) for _, row in source.rows(Wanted("toy", "en", part))]


def test_a_task_with_fixed_choices(tmp_path: Path) -> None:
    assert rows(make(tmp_path)) == [
        {"text": "P1\nQuestion: Is ice cold?\nAnswer:", "choices": ["no", "yes"], "answer": "yes"},
        {"text": "P2\nQuestion: Is fire cold?\nAnswer:", "choices": ["no", "yes"], "answer": "no"},
    ]


@pytest.mark.parametrize(
    ("choice", "target", "choices"),
    [
        ("{{options.text}}", "{{options.text.index(key)}}", ["x", "y"]),
        ("{{[options.text[0], options.text[1]]}}", "key", ["x", "y"]),
        ({"a": "x", "b": "y"}, "{{ key if key in ('x', 'y') else 'x' }}", ["x", "y"]),
    ],
)
def test_choices_and_targets_in_their_other_forms(
    tmp_path: Path, choice: Any, target: Any, choices: list[str]
) -> None:
    first = rows(make(tmp_path, doc_to_choice=choice, doc_to_target=target))[0]
    assert (first["choices"], first["answer"]) == (choices, "y")


@pytest.mark.parametrize(
    ("target", "answer"),
    [("key", "2"), ("{{ key }}", "3"), ("place", "3"), (" {{ key }}", ...), ("{{ place }}", "3")],
)
def test_a_columns_digits_are_a_choice_and_a_templates_are_a_place(
    tmp_path: Path, target: str, answer: Any
) -> None:
    """As `doc_to_target` of lm-evaluation-harness has it."""
    path = make(tmp_path, doc_to_choice=["1", "2", "3"], doc_to_target=target, doc_to_text="q")
    (tmp_path / "documents.jsonl").write_text('{"q": "?", "key": "2", "place": 2}\n')
    if answer is ...:
        with pytest.raises(IclError, match="' 2' is not among the choices"):
            rows(path)
    else:
        assert rows(path)[0]["answer"] == answer


def test_relative_files_are_read_from_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    kwargs = {"data_files": {"validation": "documents.jsonl"}}
    path = make(tmp_path / "data", dataset_kwargs=kwargs, doc_to_text="q")
    (tmp_path / "elsewhere" / "documents.jsonl").write_text('{"q": "wrong", "label": 0}\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [row["text"] for row in rows(path)] == ["Is ice cold", "Is fire cold"]


def test_a_class_label_is_its_number_as_in_lm_eval(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"q": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    made = datasets.Dataset.from_dict({"q": ["a", "b"], "label": [0, 1]}, features=features)
    (tmp_path / "stored").mkdir()
    made.to_parquet(tmp_path / "stored" / "validation.parquet")
    path = make(tmp_path, dataset_path="stored", dataset_kwargs=..., doc_to_text="{{q}} {{label}}",
                doc_to_choice=["yes", "no"])  # fmt: skip
    found = [(row["text"], row["answer"]) for row in rows(path)]
    assert found == [("a 0", "yes"), ("b 1", "no")]


def test_the_text_may_be_a_column_and_files_may_be_included(tmp_path: Path) -> None:
    make(tmp_path, "base_yaml", doc_to_text=None)
    path = tmp_path / "toy.yaml"
    path.write_text("include: base_yaml\ntask: other\ndoc_to_text: passage\n")
    assert [row["text"] for row in rows(path)] == ["P1", "P2"]


def test_a_family_reads_them_as_classification_or_multiple_choice(tmp_path: Path) -> None:
    make(tmp_path / ".", "b.yaml")
    make(tmp_path / ".", "m.yaml", doc_to_choice="{{options.text}}", doc_to_target="key")
    path = write(
        tmp_path,
        data=["validation"],
        sources=[{"type": "lm-eval", "root": "."}],
        tasks={
            "b": {"labels": ["no", "yes"], "template": {"input": "{{ text }}"}},
            "m": {
                "kind": "multiple_choice",
                "labels": ["A", "B"],
                "template": {"input": "{{ text }} A {{ A }} B {{ B }}"},
            },
        },
    )
    family = load_family(str(path))
    assert [e.label for e in family.load("b", "en").examples] == ["yes", "no"]
    assert [(e.fields["A"], e.label) for e in family.load("m", "en").examples] == [
        ("x", "B"), ("v", "A"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "extra", "expected"),
    [
        ({"output_type": "generate_until"}, "", "only multiple_choice can be read"),
        ({"doc_to_choice": ...}, "", "has no 'doc_to_choice'"),
        (
            {"doc_to_text": ...},
            "doc_to_text: !function utils.f\n",
            "needs Python code for 'doc_to_t",
        ),
        ({}, "process_docs: !function utils.f\n", "needs Python code for 'process_docs'"),
        ({}, "x: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        (
            {"dataset_kwargs": {"trust_remote_code": True}},
            "",
            "asks to run the data set's own code",
        ),
        ({"doc_to_target": "{{ 5 }}"}, "", "document 1 of 'validation': the target is 5 but"),
        ({"doc_to_target": "passage"}, "", "target 'P1' is not among the choices"),
        ({"doc_to_choice": "{{ q }}"}, "", "document 1 .*gives 'Is ice cold', which is no list"),
        ({"doc_to_text": "{{ nothing }}"}, "", "document 1 .*'nothing' is undefined"),
        ({"doc_to_text": "{{ q.__class__.__mro__ }}"}, "", "document 1 .*unsafe"),
        ({"include": "toy.yaml"}, "", "include each other in a circle"),
    ],
)
def test_what_is_outside_the_subset_is_refused(
    tmp_path: Path, changes: dict[str, Any], extra: str, expected: str
) -> None:
    path = make(tmp_path, extra=extra, **changes)
    with pytest.raises(IclError, match=expected):
        rows(path)


def test_a_split_that_the_task_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"names no split for 'train'.*use validation in `data`"):
        rows(make(tmp_path), "train")

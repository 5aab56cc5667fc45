"""Natural Instructions, BIG-bench and MetaICL files, in the shapes that their authors publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl.errors import IclError
from icl.tasks import load_family
from icl.tasks.loaded import Task
from tests.tasks.helpers import write

NATURAL = {
    "Contributors": ["A"],
    "Source": ["made by hand"],
    "Categories": ["Sentiment Analysis"],
    "Reasoning": [],
    "Definition": ["Say whether the review is good or bad."],
    "Input_language": ["English"],
    "Output_language": ["English"],
    "Instruction_language": ["English"],
    "Domains": ["Reviews"],
    "Positive Examples": [{"input": "Fine", "output": "good", "explanation": "-"}],
    "Negative Examples": [],
    "Instances": [
        {"id": "task9-1", "input": "I liked it", "output": ["good"]},
        {"id": "task9-2", "input": "Dull", "output": ["bad", "poor"]},
    ],
    "Instance License": ["CC0"],
}
BIG_BENCH = {
    "name": "toy",
    "description": "Say whether it is true",
    "keywords": ["made by hand"],
    "metrics": ["multiple_choice_grade"],
    "preferred_score": "multiple_choice_grade",
    "examples": [
        {"input": "Ice is cold", "target_scores": {"True": 1, "False": 0}},
        {"input": "Fire is cold", "target_scores": {"True": 0, "False": 1}},
    ],
}
METAICL = [
    {"task": "toy", "input": "I liked it", "output": "good", "options": ["bad", "good"]},
    {"task": "toy", "input": "Dull", "output": "bad", "options": ["bad", "good"]},
]


def load(folder: Path, form: str, content: str, task: Any) -> Task:
    (folder / "toy.json").write_text(content)
    (folder / "toy.jsonl").write_text(content)
    file = "{task}.jsonl" if form == "metaicl" else "{task}.json"
    source = {"type": "directory", "root": ".", "format": form, "file": file}
    path = write(folder, sources=[source], tasks={"toy": task})
    return load_family(str(path)).load("toy", "en")


def pairs(task: Task) -> list[tuple[dict[str, str], str]]:
    return [(dict(e.fields), e.label) for e in task.examples]


def test_natural_instructions(tmp_path: Path) -> None:
    template = {"input": "{{ definition }}\n{{ input }}\n"}
    task = load(tmp_path, "natural-instructions", json.dumps(NATURAL),
                {"labels": ["good", "bad"], "template": template})  # fmt: skip
    told = {"definition": "Say whether the review is good or bad."}
    assert pairs(task) == [
        ({"input": "I liked it"} | told, "good"),
        ({"input": "Dull"} | told, "bad"),
    ]
    assert [e.parallel_id for e in task.examples] == ["all/task9-1", "all/task9-2"]


def test_big_bench_with_the_same_options_is_classification(tmp_path: Path) -> None:
    task = load(tmp_path, "big-bench", json.dumps(BIG_BENCH),
                {"labels": ["True", "False"], "template": {"input": "{{ input }}:"}})  # fmt: skip
    assert pairs(task) == [({"input": "Ice is cold"}, "True"), ({"input": "Fire is cold"}, "False")]


def test_big_bench_with_options_of_its_own_is_multiple_choice(tmp_path: Path) -> None:
    examples = [
        {"input": "Sky?", "target_scores": {"blue": 1, "red": 0}},
        {"input": "Sun?", "target_scores": {"cold": 0, "hot": 1}},
    ]
    task = load(
        tmp_path,
        "big-bench",
        json.dumps(BIG_BENCH | {"examples": examples}),
        {
            "kind": "multiple_choice",
            "labels": ["A", "B"],
            "template": {"input": "{{ input }} A {{ A }} B {{ B }}"},
        },
    )
    assert pairs(task) == [
        ({"input": "Sky?", "A": "blue", "B": "red"}, "A"),
        ({"input": "Sun?", "A": "cold", "B": "hot"}, "B"),
    ]


def test_big_bench_with_targets_is_generation(tmp_path: Path) -> None:
    examples = [{"input": "1+1", "target": ["2", "two"]}, {"input": "2+2", "target": "4"}]
    template = {"input": "{{ input }}"}
    changes = {"kind": "generation", "metrics": ["exact_match"], "template": template}
    task = load(tmp_path, "big-bench", json.dumps(BIG_BENCH | {"examples": examples}), changes)
    assert pairs(task) == [({"input": "1+1"}, "2"), ({"input": "2+2"}, "4")]


def test_metaicl(tmp_path: Path) -> None:
    task = load(tmp_path, "metaicl", "\n".join(map(json.dumps, METAICL)),
                {"labels": ["good", "bad"], "template": {"input": "{{ input }}\n"}})  # fmt: skip
    assert pairs(task) == [({"input": "I liked it"}, "good"), ({"input": "Dull"}, "bad")]


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("natural-instructions", without(NATURAL, "Instances"), "toy.json: the key 'Instances' is"),
        (
            "natural-instructions",
            NATURAL | {"Instances": [{"input": "a"}]},
            "row 1: .*'output' is m",
        ),
        (
            "natural-instructions",
            NATURAL | {"Instances": [{"input": "a", "output": []}]},
            "row 1: the key 'output' is empty",
        ),
        (
            "natural-instructions",
            NATURAL | {"Instances": NATURAL["Instances"][:1] * 2},
            "row 2: the id 'task9-1' stands in row 1",
        ),
        ("big-bench", [], "toy.json: not a JSON object"),
        (
            "big-bench",
            BIG_BENCH | {"examples": [{"input": "a", "target_scores": {"x": 1, "y": 1}}]},
            "row 1: 2 options have the highest score",
        ),
        (
            "big-bench",
            BIG_BENCH | {"examples": [{"input": "a", "target_scores": {"x": "1"}}]},
            "row 1: the score of 'x' is no number",
        ),
        (
            "big-bench",
            BIG_BENCH | {"examples": [{"input": "a", "targets": "x"}]},
            "row 1: the key 'target' is missing. Did you mean 'targets'",
        ),
        (
            "metaicl",
            {"input": "a", "output": "godo", "options": ["good", "bad"]},
            "row 1: the output 'godo' is not among the options. Did you mean 'good'",
        ),
        ("metaicl", {"input": ["a"], "output": "x"}, "row 1: the key 'input' is not a text"),
    ],
)
def test_faults_are_told_with_row_and_key(
    tmp_path: Path, form: str, content: Any, expected: str
) -> None:
    task = {"labels": ["good", "bad"], "template": {"input": "{{ input }}"}}
    with pytest.raises(IclError, match=expected):
        load(tmp_path, form, json.dumps(content), task)

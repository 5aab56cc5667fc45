"""The JSON schema that editors read says what the definitions are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from icl.tasks.definitions.json_schema import HEADER, SCHEMA_FILE, definition_schema, schema_text
from icl.tools.shipped import shipped
from tests.tasks.helpers import definition

IT = {"input": "{{ text }}"}
DEFINITIONS = sorted(shipped("tasks").glob("*.yaml"))


def test_the_schema_in_the_repository_is_the_one_of_this_code() -> None:
    found = (shipped("tasks") / SCHEMA_FILE).read_text(encoding="utf-8")
    assert found == schema_text(), "write icl.tasks.definitions.json_schema.schema_text() to it"


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda p: p.stem)
def test_every_shipped_definition_names_the_schema(path: Any) -> None:
    assert path.read_text(encoding="utf-8").startswith(HEADER)


def test_every_field_is_described() -> None:
    schema = definition_schema()
    plain = {"schema_version", "name", "description", "type", "title", "tasks", "splits"}
    for name, part in {**schema["$defs"], "Definition": schema}.items():
        if name in ("OwnColumns", "TemplateChange"):  # as in Columns and TemplateDefinition
            continue
        for field, said in part.get("properties", {}).items():
            assert said.get("description") or field in plain | {
                "input", "target", "separator", "instruction",
            }, f"{name}.{field} has no description"  # fmt: skip


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda p: p.stem)
def test_shipped_definitions_conform(path: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(definition_schema()).validate(value)


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({}, True),
        ({"licence": None}, False),
        ({"extends": "sib200", "licence": None, "sources": None}, True),
        ({"licence": 3}, False),
        ({"license": "CC0"}, False),
        ({"sources": []}, False),
        ({"sources": [{"type": "hub"}]}, False),
        ({"disjoint": [["a", "b", "sentence"]]}, False),
        ({"tasks": {"mood": {"labels": [1, True], "template": {"input": "{{ text }}"}}}}, True),
        ({"tasks": {"mood": {"labels": [[1]], "template": {"input": "{{ text }}"}}}}, False),
        ({"tasks": {"mood": {"labels": ["a", "b"], "metrics": ["chrf"], "template": IT}}}, False),
        ({"tasks": {"mood": {"kind": "generation", "metrics": ["chrf"], "template": IT}}}, True),
        ({"tasks": {"mood": {"kind": "generation", "metrics": ["f1"], "template": IT}}}, False),
        ({"tasks": {"mood": {"kind": "mine.py:Mine", "yes": "ja", "template": IT}}}, True),
        ({"tasks": {"mood": {"kind": "mine", "template": IT}}}, False),
        ({"tasks": {"mood": {"labels": ["a", "b"], "yes": "ja", "template": IT}}}, False),
    ],
)
def test_what_editors_underline(change: dict[str, Any], right: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    value = {k: v for k, v in definition(**change).items() if v is not None}
    value = json.loads(json.dumps(value))
    assert jsonschema.Draft202012Validator(definition_schema()).is_valid(value) == right

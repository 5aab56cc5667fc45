"""The JSON schema of definitions, by which editors complete and check them."""

from __future__ import annotations

import json
from typing import Any

from icl.tasks.definitions.family import Definition

SCHEMA_FILE = "task.schema.json"
HEADER = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


def definition_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a definition.

    A definition that extends another may leave anything out at the top level. What the schema
    cannot say (labels that fit each other, fields that a template shows) `icl tasks check` says.
    """
    schema = Definition.model_json_schema()
    complete = {"required": schema.pop("required")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "anyOf": [{"required": ["extends"]}, complete],
    }


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(definition_schema(), indent=2, ensure_ascii=False) + "\n"

"""A small definition that tests change where they need to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from icl.tasks import TaskFamily, load_family

BASE: dict[str, Any] = {
    "schema_version": 1,
    "name": "toy",
    "description": "a toy",
    "licence": "CC0",
    "sources": [
        {
            "type": "directory",
            "root": ".",
            "file": "rows.jsonl",
            "columns": {"id": "id", "label": "label", "fields": {"text": "text"}},
        }
    ],
    "data": ["all"],
    "tasks": {"mood": {"labels": ["good", "bad"], "template": {"input": "{{ text }} ="}}},
    "splits": {"test": {"languages": ["en"]}},
}


def definition(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(BASE) | changes


def source(**changes: Any) -> list[dict[str, Any]]:
    found = copy.deepcopy(BASE["sources"][0]) | changes
    return [{k: v for k, v in found.items() if v is not None}]


def family(folder: Path, **changes: Any) -> TaskFamily:
    return load_family(str(write(folder, **changes)))


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(definition(**changes), sort_keys=False, allow_unicode=True))
    return path

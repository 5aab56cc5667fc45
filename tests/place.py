"""A folder with a tiny model, data, a family and an experiment, where commands run as typed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from icl.cli.main import main
from tests import tiny

LABELS = ("animal", "plant", "stone", "star")
LANGUAGES = ("aa", "bb", "cc", "dd")

FAMILY = """\
schema_version: 1
name: things
description: made-up things
licence: CC0-1.0
sources:
  - type: directory
    env: ICL_DATA_THINGS
    columns: {id: id, label: label, fields: {text: text}}
    file: "{language}/{split}.jsonl"
data: [all]
tasks:
  kind:
    labels: [animal, plant, stone, star]
    template: {input: "Text: {{ text }}\\nKind:"}
splits:
  train: {languages: [aa, bb]}
  test: {languages: [cc, dd]}
disjoint:
  - [train, test, language]
"""

EXPERIMENT = """\
schema_version: 1
name: tiny
model: {name: MODEL}
tasks: {family: FAMILY, data: DATA}
episodes:
  ways: 3
  shots: [1, 2]
  queries: 3
  count: 3
  settings:
    - name: within
    - name: cross-lingual
      support_language: aa
learners:
  majority: {method: majority}
  zero-shot: {method: zero-shot}
  in-context: {method: in-context}
  prototypes: {method: prototypes}
  linear-probe: {method: linear-probe}
  lora: {method: lora, steps: 2}
  fomaml:
    method: fomaml
    inner_steps: 1
    training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}
"""


def run_icl(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `icl` with arguments; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["icl", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def write_data(folder: Path, languages: Iterable[str] = LANGUAGES, each: int = 6) -> None:
    """Write what `FAMILY` reads: so many rows of each label in each language."""
    for language in languages:
        rows = [
            {"id": f"{label}{i}", "label": label, "text": f"{language} {label[:3]} number {i}"}
            for label in LABELS
            for i in range(each)
        ]
        path = folder / language / "all.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_all(folder: Path, text: str = EXPERIMENT, family: str = FAMILY) -> Path:
    """Write an experiment with all that it names; return its file."""
    tiny.save(folder / "model")
    write_data(folder / "data")
    return write_experiment(folder, text, family)


def write_experiment(
    folder: Path, text: str = EXPERIMENT, family: str = FAMILY, name: str = "tiny"
) -> Path:
    """Write an experiment and its family, by the places of model and data in the folder."""
    for word, path in (("MODEL", "model"), ("FAMILY", "things.yaml"), ("DATA", "data")):
        text = text.replace(word, str(folder / path))
    (folder / "things.yaml").write_text(family, "utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(text, "utf-8")
    return path


@dataclass(frozen=True)
class Place:
    """Such a folder; see `write_experiment` for what is written there."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    text: str = EXPERIMENT
    family: str = FAMILY
    name: str = "tiny"

    def write(self, old: str = "", new: str = "", family: str = "") -> Path:
        """Write the experiment, with one part replaced; return its file."""
        assert old in self.text
        text = self.text.replace(old, new, 1)
        return write_experiment(self.folder, text, family or self.family, self.name)

    def icl(self, *arguments: object) -> tuple[int, str, str]:
        """Run `icl` with arguments; return exit code, standard output and standard error."""
        code = run_icl(self.monkeypatch, *arguments)
        out, err = self.capture.readouterr()
        return code, out, err

    def refusal(self, *arguments: object) -> str:
        """Run `icl` on bad input: it must exit with 2 and say one line; return that line."""
        code, _, err = self.icl(*arguments)
        assert code == 2, err
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("icl: ")
        return lines[0]


def must_not_load(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")

"""The Hub source, on repositories in the Hub's own layout that lie in local directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from icl.errors import IclError
from icl.tasks import TaskFamily, load_family
from tests.tasks.helpers import write

CARD = """\
---
configs:
- config_name: de_Latn
  data_files:
  - {split: train, path: de/train-*.parquet}
  - {split: validation, path: de/validation-*.parquet}
---
"""
COLUMNS = {"id": "index_id", "label": "category", "fields": {"text": "text"}}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    (folder / "de").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    features = datasets.Features(
        index_id=datasets.Value("int64"),
        category=datasets.ClassLabel(names=["good", "bad"]),
        text=datasets.Value("string"),
    )
    for part in ("train", "validation"):
        rows = {
            "index_id": [7, 8, 9],
            "category": [1, 0, -1],
            "text": [f"{part} {c}" for c in "xyz"],
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / "de" / f"{part}-00000-of-00001.parquet")
    return folder


def load(repository: Path, **changes: Any) -> TaskFamily:
    source = {
        "type": "hub",
        "name": str(repository),
        "config": "{language}_Latn",
        "splits": {"test": "validation"},
        "columns": COLUMNS,
    } | changes
    task = {"labels": ["good", "bad"], "skip": [-1], "template": {"input": "{{ text }} ="}}
    path = write(
        repository.parent,
        data=["train", "test"],
        sources=[{k: v for k, v in source.items() if v is not None}],
        tasks={"mood": task},
        splits={"train": {"languages": ["de"], "data": ["train"]}},
    )
    return load_family(str(path))


EXPECTED = [
    ("de/train/7", "train x", "bad"), ("de/train/8", "train y", "good"),
    ("de/test/7", "validation x", "bad"), ("de/test/8", "validation y", "good"),
]  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
def test_configurations_splits_and_class_labels_are_read(repository: Path, streaming: bool) -> None:
    family = load(repository, streaming=streaming)
    assert [(e.id, e.text, e.label) for e in family.load("mood", "de").examples] == EXPECTED
    assert [e.text for e in family.examples("train", "mood", "de")] == ["train x", "train y"]


def test_files_of_a_repository_without_configurations_are_read(repository: Path) -> None:
    (repository / "README.md").unlink()
    family = load(repository, config=None, files="{language}/{split}-*.parquet")
    assert [(e.id, e.text, e.label) for e in family.load("mood", "de").examples] == EXPECTED


@pytest.mark.parametrize("streaming", [False, True])
def test_a_limit_reads_the_first_rows(repository: Path, streaming: bool) -> None:
    family = load(repository, streaming=streaming, limit=1)
    assert [e.text for e in family.load("mood", "de").examples] == ["train x", "validation x"]


def test_the_revision_is_asked_for(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **k: asked.append(k["revision"]) or real(*a, **k)
    )
    load(repository, revision="abc123").load("mood", "de")
    assert asked == ["abc123", "abc123"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": "{language}_Cyrl"}, r"'de_Cyrl'.*cannot be read.*check the network, the name"),
        ({"splits": {"test": "tset"}}, "'tset'.*cannot be read"),
        ({"name": "nobody/nothing", "config": None}, "'nobody/nothing'.*cannot be read"),
    ],
)
def test_what_cannot_be_had_is_told(repository: Path, changes: Any, expected: str) -> None:
    with pytest.raises(IclError, match=expected) as caught:
        load(repository, **changes).load("mood", "de")
    assert "\n" not in str(caught.value)

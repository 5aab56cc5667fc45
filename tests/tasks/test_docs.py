"""What docs/tasks.md and docs/episodes.md show is right."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from icl.episodes.schema import EpisodesConfig
from icl.tasks import family_names
from icl.tasks.definitions.extends import read_definition

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_definition_is_right(tmp_path: Path) -> None:
    (block,) = blocks("tasks.md", "yaml")
    path = tmp_path / "moods.yaml"
    path.write_text(block, encoding="utf-8")
    found = read_definition(path)
    assert list(found.tasks["mood"].named_templates) == ["plain", "asks"]


def test_the_episodes_are_right() -> None:
    (block,) = blocks("episodes.md", "yaml")
    config = EpisodesConfig.model_validate(yaml.safe_load(block)["episodes"])
    assert set(EpisodesConfig.model_fields) - config.model_fields_set == {
        "file", "tasks", "languages",
    }  # fmt: skip


def test_the_ready_families_are_all_named() -> None:
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    for name in family_names():
        assert f"`{name}`" in text


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("episodes.md", "python")
    exec(textwrap.dedent(block), {})
    assert capsys.readouterr().out.rstrip().endswith("20")

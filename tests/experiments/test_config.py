"""An experiment is checked to the end before anything loads; each fault names its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.prompt_study import load_study
from icl.tools.shipped import shipped

TEXT = """\
schema_version: 1
name: small
model:
  name: some/model
tasks:
  family: toy
episodes:
  ways: 3
  shots: [1, 4]
  queries: 6
  count: 2
  languages: [no, fr]
  settings:
    - name: within
    - name: cross-lingual
      support_language: en
learners:
  majority:
    method: majority
  lora:
    method: lora
    steps: 10
  fomaml:
    method: fomaml
    training:
      steps: 7
"""


def _load(folder: Path, text: str) -> ExperimentConfig:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_the_resolved_experiment_reads_back_as_the_same(tmp_path: Path) -> None:
    config = _load(tmp_path, TEXT)
    again = _load(tmp_path, config.to_yaml())
    assert again.resolved() == config.resolved()
    assert again.to_yaml() == config.to_yaml()


def test_the_resolved_experiment_holds_every_default(tmp_path: Path) -> None:
    learners = _load(tmp_path, TEXT).resolved()["learners"]
    assert list(learners) == ["majority", "lora", "fomaml"]
    assert learners["lora"]["steps"] == 10
    assert learners["lora"]["rank"] > 0
    assert learners["fomaml"]["training"]["steps"] == 7
    assert learners["fomaml"]["training"]["meta_batch"] > 0
    assert "training" not in learners["lora"]


def test_norwegian_is_a_language(tmp_path: Path) -> None:
    assert _load(tmp_path, TEXT).episodes.languages == ("no", "fr")


@pytest.mark.parametrize("path", sorted(shipped("configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_each_experiment_that_icl_brings_along_is_valid(path: Path) -> None:
    load = load_study if path.stem == "prompt_study" else load_config
    assert load(path).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("method: lora", "method: loar", 21, r"learners\.lora\.method.*Did you mean 'lora'\?$"),
        ("steps: 10", "stpes: 10", 22, r"learners\.lora\.stpes.*Did you mean 'steps'\?$"),
        ("steps: 10", "steps: -1", 22, r"learners\.lora\.steps.*greater than or equal to 0"),
        ("steps: 7", "stps: 7", 26, r"learners\.fomaml\.training\.stps.*Did you mean 'steps'\?$"),
        ("    steps: 10", "    training: {}", 20, r"'lora' is not meta-trained"),
        ("some/model", "packaged:gema-3-270m", 4, r"Did you mean 'packaged:gemma-3-270m'\?$"),
        ("some/model", "./nowhere", 4, r"model\.name.*'\./nowhere' does not exist"),
        (
            "some/model",
            "some/model\n  device_map: aut",
            5,
            r"model\.device_map.*'auto', 'bal",
        ),
        ("some/model", "some/model\n  quantise: 3bit", 5, r"model\.quantise.*'4bit' or '8bit'"),
        (
            "some/model",
            "some/model\n  device: cpu\n  device_map: auto",
            3,
            r"'model'.*drop `device`\.$",
        ),
        ("ways: 3", "ways: three", 8, r"episodes\.ways.*valid integer"),
        ("ways: 3", "ways: 1", 8, r"episodes\.ways.*greater than or equal to 2"),
        ("[1, 4]", "[4, 4]", 9, r"episodes\.shots.*different numbers"),
        ("[1, 4]", "[]", 9, r"episodes\.shots.*at least 1 item"),
        ("queries: 6", "querys: 6", 10, r"episodes\.querys.*Did you mean 'queries'\?$"),
        ("- name: cross-lingual", "- name: within", 13, r"episodes\.settings.*share a name"),
        ("name: small", "name: ../small", 2, r"'name'.*cannot name a folder"),
        ("schema_version: 1", "schema_version: 2", 1, r"schema_version"),
        ("tasks:\n", "taks:\n", 5, r"taks.*Did you mean 'tasks'\?$"),
        ("count: 2", "count: 2\n  count: 3", 12, r"count.*twice"),
        ("[1, 4]", "[1, 4", 10, r"not valid YAML"),
        ("ways: 3", "ways:\t- 3", 8, r"not valid YAML"),
    ],
)
def test_a_fault_is_told_with_file_line_field_and_mend(
    old: str, new: str, line: int, told: str, tmp_path: Path
) -> None:
    assert old in TEXT
    with pytest.raises(IclError, match=told) as caught:
        _load(tmp_path, TEXT.replace(old, new, 1))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'experiment.yaml'}, line {line}")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "- a list", "only words", "# a comment\n"])
def test_a_file_without_an_experiment_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(IclError, match="holds no experiment; it needs `schema_version`"):
        _load(tmp_path, text)


def test_the_data_directory_can_be_given_from_outside(tmp_path: Path) -> None:
    config = _load(tmp_path, TEXT)
    assert config.with_data(tmp_path).tasks.data == str(tmp_path)
    assert config.tasks.data is None

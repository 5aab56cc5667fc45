"""The episodes of an experiment: checked when read, and drawn as they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from icl.episodes import Composition, Episode, EpisodeSampler, Setting
from icl.episodes.files import EPISODES, save_episodes
from icl.episodes.schema import EpisodesConfig
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, TasksConfig
from icl.experiments.episodes import iterate_episodes, prepare_family
from icl.experiments.experiment import entrants_of
from icl.experiments.models import make_models
from icl.runs.entrants import suited
from icl.tasks.loaded import TaskFamily
from icl.tools.yamlfile import load_yaml
from tests.episodes.toy_families import regular_family

BASE = {"count": 3, "ways": 2, "shots": [0, 1], "queries": 4}


def read(folder: Path, **changes: Any) -> EpisodesConfig:
    path = folder / "episodes.yaml"
    values = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return load_yaml(path, EpisodesConfig)


def experiment(episodes: EpisodesConfig, seed: int = 3) -> ExperimentConfig:
    return ExperimentConfig.model_validate(
        {
            "schema_version": 1, "name": "x", "model": {"name": "m"}, "seed": seed,
            "tasks": {"family": "toy"}, "learners": {"majority": {"method": "majority"}},
            "episodes": episodes.model_dump(),
        }
    )  # fmt: skip


def draw_episodes(
    config: ExperimentConfig, family: TaskFamily, limit: int | None = None
) -> list[Episode]:
    """Draw an experiment's episodes as a run does: those that its learners can take part in."""
    entrants = entrants_of(config, family, make_models(config))
    asked = iterate_episodes(config, family, limit)
    return list(suited(entrants, asked))


def test_every_field_reaches_the_sampler(tmp_path: Path) -> None:
    config = read(
        tmp_path, pool=4, near=0.9, tasks=["task1"], languages=["fr"],
        composition={"max_ways": 4, "vary_shots": True, "support": "natural", "imbalance": 2,
                     "queries": "natural"},
        settings=[{"name": "a", "support_language": "en", "other_domain": False}],
    )  # fmt: skip
    (sampler,) = config.samplers(regular_family(), 7)
    expected = EpisodeSampler(
        regular_family(), "test", ways=2, shots=(0, 1), queries=4, setting=Setting("a", "en"),
        tasks=("task1",), languages=("fr",), pool=4, near=0.9, seed=7,
        composition=Composition(4, True, "natural", 2.0, "natural"),
    )  # fmt: skip
    assert list(sampler.episodes(4)) == list(expected.episodes(4))
    assert draw_episodes(experiment(config, 7), regular_family()) == list(expected.episodes(3))


def test_variants_are_made_of_the_same_episodes(tmp_path: Path) -> None:
    config = read(tmp_path, variants=["plain", "flipped-labels"], shots=[1])
    drawn = draw_episodes(experiment(config), regular_family())
    plain, flipped = drawn[:3], drawn[3:]
    assert [e.setting for e in drawn] == ["within"] * 3 + ["within+flipped-labels"] * 3
    for one, other in zip(plain, flipped, strict=True):
        assert one.query == other.query
        assert [e.fields for e in one.support] == [e.fields for e in other.support]
        assert [e.label for e in one.support] != [e.label for e in other.support]


@pytest.mark.parametrize("words", ["name", {"animals": "beasts"}])
def test_a_learners_own_words_do_not_stand_in_place_of_abstract_ones(words: Any) -> None:
    def drawn(variant: str, **params: Any) -> list[Episode]:
        asked = EpisodesConfig.model_validate({**BASE, "variants": ["plain", variant]})
        learners = {"zero-shot": {"method": "zero-shot", **params}}
        config = {**experiment(asked).model_dump(), "learners": learners}
        return draw_episodes(ExperimentConfig.model_validate(config), regular_family())

    with pytest.raises(IclError, match=r"'zero-shot' sets `words`.*abstract-labels"):
        drawn("abstract-labels", words=words)
    assert drawn("flipped-labels", words=words) and drawn("abstract-labels", words="lower")


def test_saved_episodes_are_compared_on_as_they_are(tmp_path: Path) -> None:
    sampler = EpisodeSampler(regular_family(), "test", ways=2, shots=(0, 1), queries=4)
    save_episodes(tmp_path / "set", sampler, 5)
    whole = list(sampler.episodes(5))
    for file in (tmp_path / "set", tmp_path / "set" / EPISODES):
        config = EpisodesConfig(file=str(file))
        assert draw_episodes(experiment(config), regular_family()) == whole
        assert draw_episodes(experiment(config), regular_family(), limit=2) == whole[:4]


def test_saved_episodes_that_were_changed_are_refused(tmp_path: Path) -> None:
    sampler = EpisodeSampler(regular_family(), "test", ways=2, shots=(1,), queries=4)
    save_episodes(tmp_path / "set", sampler, 2)
    file = tmp_path / "set" / EPISODES
    file.write_text(file.read_text(encoding="utf-8").replace("text", "txet"), encoding="utf-8")
    config = experiment(EpisodesConfig(file=str(tmp_path / "set")))
    with pytest.raises(IclError, match="its SHA-256 differs"):
        draw_episodes(config, regular_family())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": None}, "`count` is missing; add it, or name saved episodes under `file`"),
        ({"file": "set"}, r"line 1, field 'count': the episodes of `file` are drawn already"),
        ({"file": "set", **dict.fromkeys(BASE), "near": 0.5}, "field 'near': the episodes of"),
        ({"pool": -1}, "field 'pool': .*greater than or equal to 0"),
        ({"near": 1.5}, "field 'near': .*less than or equal to 1"),
        ({"variants": ["odd"]}, "field 'variants.0': .*'plain', 'shuffled-labels'"),
        ({"variants": ["plain", "plain"]}, "field 'variants': a variant stands twice"),
        ({"composition": {"imbalance": 0.5}}, "field 'composition.imbalance'"),
        ({"composition": {"max_way": 5}}, "'composition.max_way'.*Did you mean 'max_ways'"),
        ({"settings": [{"name": "x", "other_domains": True}]}, "Did you mean 'other_domain'"),
    ],
)
def test_a_fault_is_told_with_line_and_field(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(IclError, match=said) as caught:
        read(tmp_path, **changes)
    assert "episodes.yaml, line" in str(caught.value)


MOODS = """\
schema_version: 1
name: moods
description: moods
licence: CC0-1.0
sources:
  - {type: directory, root: ., file: "{split}.jsonl", columns: {label: label, fields: {text: text}}}
data: [train, test]
tasks:
  mood:
    labels: [good, bad]
    templates: {short: {input: "{{ text }} ="}, long: {input: "How is {{ text }}?"}}
splits:
  train: {languages: [en], data: [train]}
  test: {languages: [en], data: [test]}
disjoint: [[train, test, id]]
"""


def test_an_experiment_names_its_template_and_drops_leaks(tmp_path: Path) -> None:
    (tmp_path / "moods.yaml").write_text(MOODS)
    for part in ("train", "test"):
        rows = [f"{part if i > 2 else 'both'} {i}" for i in range(20)]
        lines = [json.dumps({"text": t, "label": "good" if i % 2 else "bad"})
                 for i, t in enumerate(rows)]  # fmt: skip
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    config = experiment(read(tmp_path, drop_leaks=True, shots=[1]))
    tasks = TasksConfig(family=str(tmp_path / "moods.yaml"), template="long")
    config = config.model_copy(update={"tasks": tasks})
    family = prepare_family(config)
    texts = {s: {e.text for e in family.examples(s, "mood", "en")} for s in ("train", "test")}
    assert (len(texts["train"]), len(texts["test"])) == (17, 20)
    assert not texts["train"] & texts["test"]
    for episode in draw_episodes(config, family):
        assert episode.labels.template.input == "How is {{ text }}?"

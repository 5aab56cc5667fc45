"""A key changes with everything that decides a number, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import icl
from icl.episodes import EpisodeSampler
from icl.learners.registry import methods
from icl.runs import keys
from icl.runs.keys import learner_key, method_key, training_key
from icl.tools import closure
from icl.training import TrainingConfig
from tests.episodes.toy_families import make_family
from tests.evaluation import small_run

LEARNER: dict[str, Any] = {
    "method": "lora",
    "params": {"steps": 3, "rank": 8},
    "identity": "model",
    "state": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"method": "fomaml"},
        {"params": {"steps": 4, "rank": 8}},
        {"params": {"steps": 3}},
        {"identity": "another"},
        {"state": "trained"},
    ],
)
def test_each_part_of_a_learner_changes_its_key(change: dict[str, Any]) -> None:
    assert learner_key(**(LEARNER | change)) != learner_key(**LEARNER)


def test_the_order_of_parameters_does_not_matter() -> None:
    turned = LEARNER | {"params": {"rank": 8, "steps": 3}}
    assert learner_key(**turned) == learner_key(**LEARNER)


def test_code_that_decides_answers_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = learner_key(**LEARNER)
    monkeypatch.setattr(keys, "code_of", lambda *roots: "other code")
    assert learner_key(**LEARNER) != before


@pytest.mark.parametrize(
    ("file", "decided"),
    [
        ("gradient/algorithms/imaml.py", {"imaml"}),
        ("gradient/algorithms/reptile.py", {"reptile"}),
        ("gradient/algorithms/meta_sgd.py", {"meta-sgd"}),
        ("gradient/algorithms/maml_plus_plus.py", {"maml++"}),
        ("gradient/anil.py", {"anil"}),
        ("gradient/lora.py", {"lora"}),
        ("embedding/setfit.py", {"setfit"}),
        ("embedding/multitask.py", {"multitask"}),
        ("prompting/metaicl.py", {"metaicl"}),
        ("work.py", set()),  # it only says what is to come
    ],
)
def test_the_code_of_a_method_decides_it_alone(
    file: str, decided: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = closure._source, Path(icl.__file__).parent / "learners" / file
    assert path.is_file()

    def changed(one: Path) -> closure._Source:
        return replace(whole(one), tree="another") if one == path else whole(one)

    before = {method: method_key(method) for method in methods()}
    monkeypatch.setattr(closure, "_source", changed)
    closure.code_of.cache_clear()
    after = {method: method_key(method) for method in methods()}
    closure.code_of.cache_clear()
    assert {method for method in methods() if after[method] != before[method]} == decided


def test_a_key_is_the_same_in_every_process() -> None:
    code = f"from icl.runs.keys import learner_key; print(learner_key(**{LEARNER!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == learner_key(**LEARNER)


def test_other_training_episodes_change_a_training_key() -> None:
    def key(seed: int, learning_rate: float = 0.1) -> str:
        training = TrainingConfig(learning_rate=learning_rate)
        sampler = small_run.sampler("train", (1,), seed)
        return training_key("fomaml", {}, training, "model", sampler)

    assert key(0) == key(0)
    assert len({key(0), key(1), key(0, learning_rate=0.2)}) == 3


def test_data_that_no_early_episode_shows_is_part_of_a_training_key() -> None:
    """A row that the first hundred episodes never draw decides what the later ones draw."""

    def sampler(text: str) -> EpisodeSampler:
        rows = [(f"{i}", f"{i}", f"text {i}", "ab"[i % 2]) for i in range(2000)]
        rows[1234] = ("1234", "1234", text, "a")
        family = make_family({("task", "en"): rows}, ("a", "b"))
        return EpisodeSampler(family, "test", ways=2, shots=[1], queries=2)

    def key(one: EpisodeSampler) -> str:
        return training_key("fomaml", {}, TrainingConfig(), "model", one)

    one, other = sampler("text 1234"), sampler("another text")
    assert list(one.episodes(100)) == list(other.episodes(100))
    assert key(one) == key(sampler("text 1234"))
    assert key(one) != key(other)

"""`scripts/choose_rates.py` judges rates on validation episodes, and trains as configured."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from icl.experiments.config import load_config

ROOT = Path(__file__).parents[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("choose_rates", ROOT / "scripts/choose_rates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["heads_clinc150", "heads_sib200"])
def test_only_the_rate_and_the_episodes_differ_from_the_experiment(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    asked = argparse.Namespace(
        beside=["prototypes"], only=None, rates=[0.1, 0.2], shots=[1], episodes=3, ways=3, queries=6
    )
    trial, trials = script().on_validation(config, asked)
    assert trial.episodes.split == "validation"
    assert trial.episodes.languages is None  # those of the experiment belong to its test split
    assert set(trials) == {n for n, learner in config.learners.items() if learner.training}
    assert list(trial.learners) == ["prototypes", *(f"{n} {r}" for n in trials for r in (0.1, 0.2))]
    for learner, rates in trials.items():
        own = config.learners[learner].complete()
        for rate, key in rates.items():
            tried = trial.learners[key].complete()
            assert tried.params() == own.params()
            assert tried.training is not None
            assert own.training is not None
            expected = {"learning_rate": rate, "ways": own.training.ways or config.episodes.ways}
            assert tried.training == own.training.model_copy(update=expected)

"""The state that is kept is the one that does best what is done at test."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from icl.episodes import EpisodeSampler
from icl.learners.base import MetaLearner
from icl.learners.registry import is_meta_learner, make, methods
from icl.tasks.loaded import Split
from icl.training import TrainingConfig
from icl.training.log import read_log
from icl.training.samplers import validation_sampler
from icl.training.trainer import MetaTrainer
from tests import tiny, tiny_encoders
from tests.episodes.toy_families import make_family, regular_family

META = [m for m in methods() if is_meta_learner(m)]
ON_VECTORS = ("meta-prototypes", "meta-matching", "relation", "snail", "mann", "multitask")
LANGUAGES = ("en", "fr")


def train(
    folder: Path, method: str, params: dict[str, Any], **training: Any
) -> tuple[list[dict[str, Any]], MetaLearner, EpisodeSampler]:
    """Train on one task, look at another; return the looks, the learner and what was looked at."""
    splits = {"train": Split("train", ("task0",), LANGUAGES),
              "validation": Split("validation", ("task1",), LANGUAGES)}  # fmt: skip
    whole = regular_family(2, LANGUAGES)
    tables = {
        (task, language): [
            (e.id, e.parallel_id, e.fields["text"], e.label)
            for e in whole.load(task, language).examples
        ]
        for task in ("task0", "task1")
        for language in LANGUAGES
    }
    family = make_family(tables, whole.load("task0", "en").labels, splits)
    backbone = tiny_encoders.encoder() if method in ON_VECTORS else tiny.backbone()
    learner = make(method, params, backbone)
    assert isinstance(learner, MetaLearner)
    asked = {
        "meta_batch": 1, "shots": 2, "queries": 3, "learning_rate": 0.02,
        "validation": {"episodes": 2, "every": 1}, **training,
    }  # fmt: skip
    config = TrainingConfig(**asked)
    sampler = EpisodeSampler(family, "train", ways=3, shots=[2], queries=3)
    seen = validation_sampler(sampler, config)
    assert seen is not None
    MetaTrainer(learner, backbone, sampler, config, folder, "a").fit()
    looks = [x for x in read_log(folder / "log.jsonl") if x.get("event") == "validated"]
    return looks, learner, seen


def naive_loss(learner: MetaLearner, sampler: EpisodeSampler) -> float:
    """Ask one query after the other."""
    losses = []
    for e in [sampler.episode(i, 2) for i in range(2)]:
        predictor = learner.adapt(e.support, e.labels)
        losses += [
            -float(predictor.log_probs([q.fields])[0, e.labels.index(q.label)]) for q in e.query
        ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("method", META)
def test_a_look_is_the_loss_of_the_queries_after_adaptation_for_every_method(
    method: str, tmp_path: Path
) -> None:
    """For maml++ the first look comes where its meta-loss has a share of each inner step."""
    looks, learner, seen = train(tmp_path, method, {}, steps=1)
    assert looks[0]["loss"] == pytest.approx(naive_loss(learner, seen), abs=2e-5)


def test_looks_without_training_between_them_are_alike(tmp_path: Path) -> None:
    """So what a method changes on the way, as maml++ does its weights, chooses no state."""
    looks, _, _ = train(
        tmp_path, "maml++", {}, steps=3, learning_rate=1e-12, optimiser="sgd", clip_norm=1e-12
    )
    assert len(looks) == 3
    assert [x["loss"] for x in looks] == pytest.approx([looks[0]["loss"]] * 3, abs=1e-6)


def test_labels_that_training_has_not_seen_are_no_reason_to_stop_at_once(tmp_path: Path) -> None:
    """The training head has no row for a validation label; the head fitted to its support does."""
    looks, learner, seen = train(tmp_path, "multitask", {}, steps=20)
    losses = [x["loss"] for x in looks]
    assert max(losses) < math.log(3)  # the training head stays at chance here or above it
    assert losses.index(min(losses)) > 0
    assert naive_loss(learner, seen) == pytest.approx(min(losses), abs=2e-5)


def test_how_often_is_looked_changes_no_step(tmp_path: Path) -> None:
    often, seldom = (
        train(
            tmp_path / str(every), "fomaml", {}, steps=2, validation={"episodes": 2, "every": every}
        )[0]
        for every in (1, 2)
    )
    assert (len(often), len(seldom)) == (2, 1)
    first, second = (
        [x["loss"] for x in read_log(tmp_path / str(every) / "log.jsonl") if "event" not in x]
        for every in (1, 2)
    )
    assert first == second

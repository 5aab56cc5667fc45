"""The outer loop beside its plain road: log, schedules, faults, fine-tuned and cross-lingual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.learners.registry import make
from icl.training import TrainingConfig
from icl.training.log import TrainingLog, read_log
from icl.training.memory_needed import check_memory
from icl.training.trainer import MetaTrainer
from tests import tiny
from tests.episodes.toy_families import regular_family

BASE: dict[str, Any] = {
    "split": "test", "steps": 4, "meta_batch": 2, "shots": 2, "queries": 4,
    "learning_rate": 0.02, "checkpoint_every": 2,
}  # fmt: skip


def trainer(
    folder: Path, learner: MetaLearner | None = None, **changes: Any
) -> tuple[MetaTrainer, MetaLearner]:
    backbone = tiny.backbone()
    if learner is None:
        made = make("fomaml", {"inner_steps": 1, "rank": 2}, backbone)
        assert isinstance(made, MetaLearner)
        learner = made
    config = TrainingConfig(**BASE | changes)
    sampler = EpisodeSampler(
        regular_family(), "test", ways=3, shots=[config.shots], queries=config.queries
    )
    return MetaTrainer(learner, backbone, sampler, config, folder, "a"), learner


def faulty(bad: str, limit: float) -> tuple[MetaLearner, list[MetaTrainer]]:
    """A learner whose loss on one episode is NaN while the outer rate is above a limit."""
    learner = make("fomaml", {"inner_steps": 1, "rank": 2}, tiny.backbone())
    assert isinstance(learner, MetaLearner)
    plain, held = learner.meta_loss, list[MetaTrainer]()

    def meta_loss(episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        loss, metrics = plain(episodes)
        rate = held[0]._optimiser.param_groups[0]["lr"]
        broken = rate > limit and any(e.fingerprint == bad for e in episodes)
        return (loss * torch.nan if broken else loss), metrics

    learner.meta_loss = meta_loss  # type: ignore[method-assign]
    return learner, held


def fingerprint(index: int) -> str:
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)
    return sampler.episode(index, 2).fingerprint


def test_the_log_tells_each_step_and_resuming_keeps_it_whole(tmp_path: Path) -> None:
    trainer(tmp_path)[0].fit()
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["gradient_norm"] > 0 and line["support_loss_0"] > 0 for line in lines)
    assert {"support_loss_after", "query_loss_before"} <= lines[0].keys()
    assert lines[0]["support_loss_after"] < lines[0]["support_loss_0"]
    path = TrainingLog(tmp_path).path
    path.write_text(path.read_text() + '{"step": 5, "lo')
    max(tmp_path.glob("checkpoint-*")).unlink()
    trainer(tmp_path)[0].fit()
    again = read_log(tmp_path / "log.jsonl")
    assert [(x["step"], x["loss"]) for x in again] == [(x["step"], x["loss"]) for x in lines]


def test_divergence_names_the_one_episode_at_fault(tmp_path: Path) -> None:
    bad, other = fingerprint(5), fingerprint(4)
    learner, held = faulty(bad, 0.0)
    held.append(trainer(tmp_path, learner)[0])
    with pytest.raises(IclError, match=f"step 2.*{bad}") as caught:
        held[0].fit()
    assert other not in str(caught.value)


@pytest.mark.parametrize(("index", "back"), [(1, 0), (7, 2)])
def test_training_goes_back_to_the_last_good_checkpoint_with_half_the_rate(
    tmp_path: Path, index: int, back: int
) -> None:
    learner, held = faulty(fingerprint(index), 0.015)
    held.append(trainer(tmp_path, learner, on_divergence="halve")[0])
    with pytest.warns(UserWarning, match=f"Going on from step {back} with half"):
        summary = held[0].fit()
    assert torch.isfinite(torch.tensor(summary.last_loss))
    lines = read_log(tmp_path / "log.jsonl")
    steps = [line for line in lines if "event" not in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [line["learning_rate"] for line in steps] == [0.02] * back + [0.01] * (4 - back)
    (event,) = [line for line in lines if "event" in line]
    assert event["at"] == index // 2 + 1
    assert event["episodes"] == [fingerprint(index)]


def test_training_gives_up_where_halving_does_not_help(tmp_path: Path) -> None:
    learner, held = faulty(fingerprint(1), 0.0)
    held.append(trainer(tmp_path, learner, on_divergence="halve")[0])
    with pytest.warns(UserWarning), pytest.raises(IclError, match="diverged at step 0"):
        held[0].fit()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [1.0, 0.75, 0.5, 0.25]), ("cosine", [1.0, 0.8536, 0.5, 0.1464])],
)
def test_the_outer_rate_follows_its_schedule(
    tmp_path: Path, schedule: str, expected: list[float]
) -> None:
    trainer(tmp_path, schedule=schedule, learning_rate=1e-3)[0].fit()
    rates = [line["learning_rate"] / 1e-3 for line in read_log(tmp_path / "log.jsonl")]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_fewer_tasks_at_once_change_no_result(tmp_path: Path) -> None:
    _, whole = (parts := trainer(tmp_path / "whole", steps=2, tasks_at_once=2))[0].fit(), parts[1]
    _, split = (parts := trainer(tmp_path / "split", steps=2, tasks_at_once=1))[0].fit(), parts[1]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_descent_with_reptile_moves_the_start_towards_the_adapted_ones(tmp_path: Path) -> None:
    """With outer descent at e * rate, ``theta += e * mean(theta_K - theta)``."""
    params = {"inner_steps": 2, "inner_rate": 0.1, "rank": 2}
    learner = make("reptile", params, tiny.backbone())
    assert isinstance(learner, MetaLearner)
    before = {n: v.detach().clone() for n, v in learner.trainable_parameters().items()}
    run, _ = trainer(tmp_path, learner, steps=1, meta_batch=1, optimiser="sgd", learning_rate=0.05)
    run.fit()
    end = make("reptile", params, tiny.backbone())
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)
    e = sampler.episode(0, 2)
    problem = end.problem([(e.support, e.labels)], [(e.query, e.labels)])  # type: ignore[attr-defined]
    path = end.algorithm.descend(  # type: ignore[attr-defined]
        problem.begin(before, 1), {}, problem, [problem.support, problem.query]
    )
    for name, value in learner.trainable_parameters().items():
        expected = before[name] + 0.5 * (path.end[name][0] - before[name])
        torch.testing.assert_close(value.detach(), expected, atol=1e-6, rtol=1e-4)


def test_plain_descent_is_clipped_only_where_it_is_asked_for() -> None:
    """As Adam always was; and a configuration that was written out whole reads as it was."""
    norms = [
        TrainingConfig(**given).clip_norm
        for given in ({}, {"optimiser": "sgd"}, {"optimiser": "sgd", "clip_norm": 2.0})
    ]
    assert norms == [1.0, None, 2.0]
    for optimiser in ("adam", "sgd"):
        config = TrainingConfig(optimiser=optimiser)  # type: ignore[arg-type]
        assert TrainingConfig(**config.model_dump()) == config


def test_a_fine_tuned_start_is_trained_without_an_inner_loop_in_its_language(
    tmp_path: Path,
) -> None:
    run, learner = trainer(tmp_path, fine_tune={"steps": 3, "language": "en"}, steps=1)
    seen: list[Episode] = []
    plain = learner.fine_tuning_loss

    def fine_tuning_loss(episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        seen.extend(episodes)
        return plain(episodes)

    learner.fine_tuning_loss = fine_tuning_loss  # type: ignore[method-assign]
    summary = run.fit()
    assert summary.steps == 4
    assert {e.query_language for e in seen} == {"en"}
    lines = read_log(tmp_path / "log.jsonl")
    assert [("support_loss_0" in line) for line in lines] == [False, False, False, True]


def test_too_little_memory_is_told_before_the_start() -> None:
    backbone = tiny.backbone()
    learner = make("maml", {}, backbone)
    assert isinstance(learner, MetaLearner)
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)
    episodes = [sampler.episode(0, 2)]
    needed = learner.memory_estimate(episodes)
    assert needed is not None
    backbone.memory_budget = needed // 2 - 10
    with pytest.warns(UserWarning, match="set fewer `queries`"):
        check_memory(learner, backbone, episodes)
    with pytest.warns(UserWarning, match="set `training.tasks_at_once: 1`, fewer `queries`"):
        check_memory(learner, backbone, [*episodes, sampler.episode(1, 2)])
    more = learner.memory_estimate([*episodes, sampler.episode(1, 2)])
    assert more is not None
    assert more > 1.5 * needed

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from icl.episodes import EpisodeSampler
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.learners.registry import make
from icl.models.meter import Spent
from icl.training import TrainingConfig
from icl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from icl.training.snapshot import digest_of
from icl.training.trainer import MetaTrainer, TrainingSummary
from tests import tiny, tiny_encoders
from tests.episodes.toy_families import regular_family

CONFIG = TrainingConfig(
    split="test", steps=6, meta_batch=2, shots=2, queries=4, learning_rate=0.02, checkpoint_every=2
)


class Killed(Exception):
    pass


def train(
    folder: Path, kill_at: int | None = None, config: TrainingConfig = CONFIG, identity: str = "a"
) -> tuple[TrainingSummary, MetaLearner, list[int]]:
    backbone = tiny.backbone()
    learner = make("fomaml", {"inner_steps": 1, "rank": 2}, backbone)
    assert isinstance(learner, MetaLearner)
    sampler = EpisodeSampler(
        regular_family(), "test", ways=3, shots=[config.shots], queries=config.queries
    )
    seen: list[int] = []

    def progress(step: int, steps: int, loss: float) -> None:
        seen.append(step)
        if step == kill_at:
            raise Killed

    trainer = MetaTrainer(learner, backbone, sampler, config, folder, identity)
    return trainer.fit(progress), learner, seen


def test_training_lowers_the_meta_loss(tmp_path: Path) -> None:
    summary, _, _ = train(tmp_path, config=CONFIG.model_copy(update={"steps": 20}))
    assert summary.last_loss < summary.first_loss - 0.05
    assert summary.episodes == 40
    assert summary.computed_tokens > 0


@pytest.mark.parametrize("kill_at", [1, 2, 3, 5])
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(
    tmp_path: Path, kill_at: int
) -> None:
    whole, learner, _ = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", kill_at=kill_at)
    resumed, other, seen = train(tmp_path / "cut")
    assert seen == list(range(2 * ((kill_at - 1) // 2) + 1, 7))
    assert resumed.digest == whole.digest
    assert (resumed.first_loss, resumed.last_loss) == (whole.first_loss, whole.last_loss)
    for name, value in learner.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, _, _ = train(tmp_path)
    again, learner, seen = train(tmp_path)
    assert seen == []
    assert again == first
    assert digest_of(learner.state_dict()) == first.digest


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _, _ = train(tmp_path)
    newest = max(tmp_path.glob("checkpoint-*"))
    content = bytearray(newest.read_bytes())
    content[-10] ^= 1
    newest.write_bytes(content)
    resumed, _, seen = train(tmp_path)
    assert capsys.readouterr().err.count("is damaged") == 1
    assert seen == [5, 6]
    assert resumed.digest == whole.digest


@pytest.mark.parametrize("keep", [0, 7, 100])
def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, keep: int) -> None:
    whole, _, _ = train(tmp_path)
    newest = max(tmp_path.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:keep])
    assert train(tmp_path)[0].digest == whole.digest


def test_another_runs_checkpoints_are_ignored(tmp_path: Path) -> None:
    train(tmp_path)
    assert train(tmp_path, identity="b")[2] == [1, 2, 3, 4, 5, 6]


def test_only_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2


def test_a_full_disk_is_told_in_one_sentence_and_earlier_checkpoints_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, Checkpoint(1, {"x": torch.ones(3)}, {"identity": "a"}))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(IclError, match="No space left on device"):
        save_checkpoint(tmp_path, Checkpoint(2, {"x": torch.zeros(3)}, {"identity": "a"}))
    monkeypatch.undo()
    found = load_checkpoint(tmp_path, "a")
    assert found is not None
    assert found.step == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_divergence_is_named_with_step_and_episodes(tmp_path: Path) -> None:
    backbone = tiny.backbone()
    learner = make("fomaml", {}, backbone)
    assert isinstance(learner, MetaLearner)
    next(iter(learner.trainable_parameters().values())).data.fill_(torch.nan)
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)
    with pytest.raises(IclError, match=r"diverged at step 0.*task\d/.*inner_rate"):
        MetaTrainer(learner, backbone, sampler, CONFIG, tmp_path, "a").fit()


def test_losses_survive_in_the_checkpoint(tmp_path: Path) -> None:
    train(tmp_path)
    found = load_checkpoint(tmp_path, "a")
    assert found is not None
    assert len(json.loads(found.metadata["losses"])) == CONFIG.steps


def test_what_training_costs_depends_on_no_store_and_no_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path / "store"))
    backbone = tiny_encoders.encoder()
    backbone.meter.shared = Spent(1e6, 1e6, 1e6)  # of learners before
    sampler = EpisodeSampler(regular_family(), "test", ways=2, shots=[1], queries=2)
    config = TrainingConfig(steps=3, meta_batch=2, shots=1, queries=2, checkpoint_every=1)

    def cost(folder: str, stop_after: int | None = None) -> TrainingSummary:
        def stop(step: int, steps: int, loss: float) -> None:
            if step == stop_after:
                raise KeyboardInterrupt

        learner = make("meta-prototypes", {}, backbone)
        assert isinstance(learner, MetaLearner)
        return MetaTrainer(
            learner, backbone, sampler, config, tmp_path / folder, "meta-prototypes"
        ).fit(stop)

    fresh, kept = cost("fresh"), cost("kept")  # the second finds all texts in the store
    with pytest.raises(KeyboardInterrupt):
        cost("stopped", stop_after=2)
    backbone.begin()
    resumed = cost("stopped")
    assert fresh.computed_tokens == kept.computed_tokens == resumed.computed_tokens > 0
    assert max(fresh.seconds, kept.seconds, resumed.seconds) < 1e3

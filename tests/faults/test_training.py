"""Faults of disks and files in meta-training: what the user sees, and what is kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from icl.errors import IclError
from icl.tools import interrupt
from icl.training import TrainingConfig
from icl.training.checkpoint import load_checkpoint
from icl.training.log import TrainingLog, read_log
from tests.faults import toy


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in read_log(folder / "log.jsonl") if "event" not in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy.trainer(tmp_path_factory.mktemp("whole"), steps=6)[0].fit().digest


@pytest.mark.parametrize("place", ["start", "names", "losses", "tensors", "end"])
def test_a_flipped_bit_anywhere_is_found_and_the_checkpoint_before_is_used(
    place: str, tmp_path: Path, whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.trainer(tmp_path, steps=6)[0].fit()
    newest = max(tmp_path.glob("checkpoint-*"))
    content = bytearray(newest.read_bytes())
    at = {
        "start": 3,
        "names": content.index(b"parameter/vector") + 4,
        "losses": content.index(b"losses") + 12,
        "tensors": len(content) // 2,
        "end": len(content) - 1,
    }[place]
    content[at] ^= 1
    newest.write_bytes(content)
    assert toy.trainer(tmp_path, steps=6)[0].fit().digest == whole
    told = capsys.readouterr().err.strip().splitlines()
    assert told == [f"icl: the checkpoint {newest.name} is damaged; using the one before."]


def test_where_every_checkpoint_is_damaged_training_begins_anew_and_is_kept(
    tmp_path: Path, whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.trainer(tmp_path, steps=6)[0].fit()
    damaged = sorted(tmp_path.glob("checkpoint-*"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:100])

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.trainer(tmp_path, steps=6)[0].fit(stop)
    told = capsys.readouterr().err.strip().splitlines()
    assert told == [
        f"icl: the checkpoint {path.name} is damaged; starting anew." for path in reversed(damaged)
    ]
    saved = load_checkpoint(tmp_path, "toy")  # not those that were damaged, though later
    assert saved is not None
    assert saved.step == 2
    assert capsys.readouterr().err == ""
    assert toy.trainer(tmp_path, steps=6)[0].fit().digest == whole


def test_folders_in_the_place_of_files_are_no_traceback(tmp_path: Path, whole: str) -> None:
    for name in ("checkpoint-00000001.safetensors", "checkpoint-00000004.3.tmp"):
        (tmp_path / name).mkdir(parents=True)
    assert toy.trainer(tmp_path, steps=6)[0].fit().digest == whole
    (tmp_path / "other" / "log.jsonl").mkdir(parents=True)
    with pytest.raises(IclError, match=r"log\.jsonl"):
        toy.trainer(tmp_path / "other", steps=6)[0].fit()


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe\n", b"[1]\n", b'{"step": "x"}\n', b"[" * 9999 + b"\n"]
)
def test_a_damaged_line_of_the_log_is_passed_over(
    damage: bytes, tmp_path: Path, whole: str
) -> None:
    toy.trainer(tmp_path, steps=6)[0].fit()
    max(tmp_path.glob("checkpoint-*")).unlink()
    log = TrainingLog(tmp_path).path
    log.write_bytes(damage + log.read_bytes())
    assert toy.trainer(tmp_path, steps=6)[0].fit().digest == whole
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_fills_up_stops_in_one_sentence_and_loses_nothing(
    small_disk: Path, whole: str
) -> None:
    folder = small_disk / "meta"
    run, _ = toy.trainer(folder, steps=6)

    def fill(step: int, steps: int, loss: float) -> None:
        if step == 3:
            (small_disk / "other").write_bytes(b"")
            with (small_disk / "other").open("ab", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1024))
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    with pytest.raises(IclError, match=r"cannot be written: No space left on device"):
        run.fit(fill)
    saved = load_checkpoint(folder, "toy")
    assert saved is not None
    assert saved.step == 2
    (small_disk / "other").unlink()
    assert toy.trainer(folder, steps=6)[0].fit().digest == whole


def test_a_disk_that_is_full_when_a_run_begins_again_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.trainer(tmp_path, steps=6)[0].fit()
    max(tmp_path.glob("checkpoint-*")).unlink()
    before = TrainingLog(tmp_path).path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IclError, match="cannot be written: No space left on device"):
        toy.trainer(tmp_path, steps=6)[0].fit()
    assert TrainingLog(tmp_path).path.read_bytes() == before


def test_an_interrupt_finishes_the_step_and_saves_it(tmp_path: Path, whole: str) -> None:
    run, made = toy.trainer(tmp_path, steps=6, checkpoint_every=0)
    plain, calls = made.meta_loss, []

    def pressed(episodes):
        calls.append(1)
        if len(calls) == 7:  # in the midst of the fourth step, which has two pieces
            interrupt.ask()
        return plain(episodes)

    made.meta_loss = pressed
    try:
        with pytest.raises(KeyboardInterrupt):
            run.fit()
    finally:
        with interrupt.at_the_next_step():
            pass  # forgets that it was asked
    saved = load_checkpoint(tmp_path, "toy")
    assert saved is not None
    assert saved.step == 4
    assert toy.trainer(tmp_path, steps=6, checkpoint_every=0)[0].fit().digest == whole
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("not enough memory: you tried")])
def test_too_little_memory_is_one_sentence_and_the_run_goes_on(
    error: Exception, tmp_path: Path
) -> None:
    whole = toy.trainer(tmp_path / "whole", steps=6, tasks_at_once=2)[0].fit().digest
    run, made = toy.trainer(tmp_path / "cut", steps=6, tasks_at_once=2)
    plain, calls = made.meta_loss, []

    def hungry(episodes):
        calls.append(1)
        if len(calls) == 5:
            raise error
        return plain(episodes)

    made.meta_loss = hungry
    with pytest.raises(IclError, match=r"Memory ran out .* `training.tasks_at_once: 1`"):
        run.fit()
    saved = load_checkpoint(tmp_path / "cut", "toy")
    assert saved is not None
    assert saved.step > 0
    assert toy.trainer(tmp_path / "cut", steps=6, tasks_at_once=2)[0].fit().digest == whole


def test_memory_that_runs_out_beside_the_passes_is_the_same_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(self, *_):
        raise MemoryError

    monkeypatch.setattr(torch.optim.Adam, "step", hungry)
    with pytest.raises(IclError, match=r"Memory ran out in the meta-training of 'toy', 1 task"):
        toy.trainer(tmp_path, steps=6)[0].fit()


def test_when_checkpoints_are_written_is_no_part_of_what_is_trained() -> None:
    often, seldom = (TrainingConfig(checkpoint_every=n) for n in (1, 9))
    assert often.deciding() == seldom.deciding()
    back = [config.model_copy(update={"on_divergence": "halve"}) for config in (often, seldom)]
    assert back[0].deciding() != back[1].deciding()  # there training goes back to one


def test_the_best_state_on_validation_is_kept_through_a_resumption(tmp_path: Path) -> None:
    """A large rate makes the last state worse than an earlier one."""
    look = {"split": "test", "episodes": 4, "every": 1}
    wild = {
        "steps": 12, "learning_rate": 1.5, "optimiser": "sgd", "clip_norm": None,
        "schedule": "constant", "validation": look,
    }  # fmt: skip
    run, made = toy.trainer(tmp_path / "a", **wild)
    run.fit()
    looks = [x for x in read_log(tmp_path / "a" / "log.jsonl") if x.get("event") == "validated"]
    assert [x["step"] for x in looks] == list(range(1, 13))
    best = min(looks, key=lambda x: x["loss"])
    saved = load_checkpoint(tmp_path / "a", "toy")
    assert saved is not None
    assert torch.equal(saved.tensors["best/vector"], made.vector.detach())
    if best["step"] != 12:
        assert not torch.equal(saved.tensors["parameter/vector"], made.vector.detach())
    again, other = toy.trainer(tmp_path / "a", **wild)
    again.fit()
    assert torch.equal(other.vector, made.vector)

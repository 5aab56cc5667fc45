"""SIGKILL at 50 random moments, half of them inside the write of a checkpoint."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests import forked
from tests.faults import toy


def test_meta_training_killed_50_times_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert forked.finish([forked.start(toy.train, whole)]) == [0]
    lot = random.Random(7)
    killed = 0
    for number in range(50):
        inside = number % 2 == 0
        child = forked.start(toy.train, broken, number if inside else None)
        if not inside:
            before = newest(broken)
            until = time.monotonic() + 20
            while newest(broken) <= before and child.is_alive() and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(lot.uniform(0, 0.02))
            child.kill()
        child.join(60)
        killed += child.exitcode == -signal.SIGKILL
    assert killed >= 45  # the last ones may find the training finished
    assert forked.finish([forked.start(toy.train, broken)]) == [0]
    assert (broken / "digest").read_text() == (whole / "digest").read_text()
    assert log(broken) == log(whole)


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("checkpoint-*.safetensors")), default="")


def log(folder: Path) -> list[tuple[int, float]]:
    from icl.training.log import read_log

    return [(line["step"], line["loss"]) for line in read_log(folder / "log.jsonl")]

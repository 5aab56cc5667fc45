"""Groups of real processes: what they exchange, and how they end together."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from icl.processes import ALONE
from icl.processes.watch import Watch
from icl.runs.folder import RunFolder
from tests import forked
from tests.processes import jobs


def told(folder: Path) -> list[str]:
    """Return what the processes have said to the user, in all."""
    lines = [line for f in sorted(folder.glob("stderr.*")) for line in f.read_text().splitlines()]
    return [line for line in lines if line.startswith("icl:")]


def test_sums_are_taken_in_the_order_of_the_pieces_and_are_the_same_everywhere(
    tmp_path: Path,
) -> None:
    assert forked.finish(forked.start_group(3, jobs.sums, tmp_path)) == [0, 0, 0]
    for count in (1, 2, 3, 4, 7):
        expected = torch.zeros(11)
        for vector in jobs._vectors(count):
            expected += vector
        for index in range(3):
            found = torch.load(tmp_path / f"{count}.{index}.pt", weights_only=True)
            assert torch.equal(found, expected)


def test_a_group_of_one_exchanges_nothing() -> None:
    assert ALONE.main
    assert list(ALONE.share(range(3))) == [0, 1, 2]
    assert ALONE.on_main(lambda: 5) == 5
    assert ALONE.gather("x") == ["x"]
    assert ALONE.broadcast(b"x") == b"x"
    ALONE.meet()


def test_a_fault_of_all_is_told_once(tmp_path: Path) -> None:
    assert forked.finish(forked.start_group(3, jobs.all_fail, tmp_path), 30) == [2, 2, 2]
    assert told(tmp_path) == ["icl: the same fault everywhere."]


def test_a_fault_of_one_ends_all_and_is_told_once(tmp_path: Path) -> None:
    began = time.monotonic()
    assert forked.finish(forked.start_group(3, jobs.one_fails, tmp_path), 30) == [2, 2, 2]
    assert time.monotonic() - began < 30
    assert told(tmp_path) == ["icl: a fault of one."]


def test_a_folder_in_use_ends_all_and_is_told_once(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").locked():
        assert forked.finish(forked.start_group(2, jobs.held, tmp_path), 30) == [2, 2]
    (line,) = told(tmp_path)
    assert "Another run is at work" in line


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on_with_other_numbers(
    tmp_path: Path, index: int
) -> None:
    assert forked.finish(forked.start_group(1, jobs.train, tmp_path / "whole")) == [0]
    whole = (tmp_path / "whole" / "digest.0").read_text()
    folder = tmp_path / "cut"
    began = time.monotonic()
    codes = forked.finish(forked.start_group(3, jobs.train, folder, index, signal.SIGKILL))
    assert time.monotonic() - began < 60
    assert codes.pop(index) == -signal.SIGKILL
    assert all(codes)
    assert any("was lost" in line and "run the same command again" in line for line in told(folder))
    assert forked.finish(forked.start_group(2, jobs.train, folder)) == [0, 0]
    assert {f.read_text() for f in folder.glob("digest.*")} == {whole}


def test_those_who_wait_for_a_main_process_that_is_killed_say_so(tmp_path: Path) -> None:
    codes = forked.finish(forked.start_group(3, jobs.main_is_killed, tmp_path), 40)
    assert codes[0] == -signal.SIGKILL
    assert all(codes)
    assert {line.split(",")[0] for line in told(tmp_path)} == {
        "icl: process 0 of 3 was lost (its connection closed)"
    }


def test_of_many_with_the_same_reason_the_one_speaks_that_gave_the_verdict() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ways = [TCPStore("127.0.0.1", store.port, is_master=False) for _ in range(6)]
    watches = [Watch(way, index, len(ways)) for index, way in enumerate(ways)]
    with ThreadPoolExecutor(len(watches)) as pool:
        spoke = list(pool.map(lambda watch: watch.tell("fault", "the same", 2), watches))
    verdict = watches[0].verdict()
    assert verdict is not None
    assert [index for index, speaks in enumerate(spoke) if speaks] == [verdict["by"]]
    assert watches[1].tell("fault", "something else", 2)
    assert not watches[2].tell("fault", "something else", 2)


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_hangs_ends_the_others(tmp_path: Path, index: int) -> None:
    group = forked.start_group(2, jobs.stuck, tmp_path, index)
    other = group[1 - index]
    other.join(40)
    group[index].kill()
    assert other.exitcode == 1
    (line,) = told(tmp_path)
    assert f"process {index} of 2 was lost (no sign of life" in line


def test_at_a_meeting_all_stop_or_none(tmp_path: Path) -> None:
    began = time.monotonic()
    assert forked.finish(forked.start_group(3, jobs.meetings, tmp_path), 40) == [130] * 3
    assert time.monotonic() - began < 40
    assert len({f.read_text() for f in tmp_path.glob("last.*")}) == 1


def test_a_group_that_was_paused_goes_on(tmp_path: Path) -> None:
    """Seconds in which a process itself stood still are no silence of another."""
    group = forked.start_group(2, jobs.train, tmp_path, -1, 0, 2, 0.5)
    until = time.monotonic() + 40
    while not (tmp_path / "meta" / "log.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in group:
            assert process.pid is not None
            os.kill(process.pid, number)
        if number == signal.SIGSTOP:
            time.sleep(6)  # longer than their patience
    assert forked.finish(group) == [0, 0]


def test_an_interrupt_of_one_stops_all_after_the_step_and_saves_it(tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    codes = forked.finish(forked.start_group(2, jobs.train, folder, 1, signal.SIGINT))
    assert all(codes)
    saved = sorted(path.name for path in (folder / "meta").glob("checkpoint-*"))
    assert saved[-1] == "checkpoint-00000003.safetensors"  # it came after the second step
    assert forked.finish(forked.start_group(1, jobs.train, tmp_path / "whole")) == [0]
    assert forked.finish(forked.start_group(3, jobs.train, folder)) == [0, 0, 0]
    found = {f.read_text() for f in tmp_path.glob("*/digest.*")}
    assert len(found) == 1

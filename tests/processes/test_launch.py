"""The launcher behind `--processes`: codes, signals, and an end for those who would wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from icl.processes import launch as module
from icl.processes.launch import launch, launched

Group = Callable[..., int]


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    """Launch processes that run given lines of Python instead of icl."""

    def run(*programs: str) -> int:
        def start(arguments: object, index: int, count: int, port: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-S", "-c", programs[index]])

        monkeypatch.setattr(module, "_start", start)
        return launch([], len(programs))

    monkeypatch.setattr(module, "_LEFT", 0.3)
    monkeypatch.setattr(module, "_TERM", 0.3)
    return run


WAIT = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_success_of_all_is_success(group: Group) -> None:
    assert group("pass", "pass", "pass") == 0


@pytest.mark.parametrize("other", ["pass", WAIT, DEAF])
def test_the_code_of_the_one_that_failed_counts_and_nobody_stays(group: Group, other: str) -> None:
    began = time.monotonic()
    assert group(other, "raise SystemExit(2)") == 2
    assert time.monotonic() - began < 10


def test_a_process_that_is_killed_is_named(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(WAIT, KILLED) == 1
    told = capsys.readouterr().err
    assert "process 1 of 2 was ended by SIGKILL (too little memory?)" in told
    assert "run the same command again" in told


def test_an_interrupt_is_handed_on_to_all(group: Group) -> None:
    obey = (
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(130));"
        " time.sleep(60)"
    )
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert group(obey, obey) == 130


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("1", False), ("2", True)])
def test_a_group_that_is_there_already_is_seen(
    value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if value is not None:
        monkeypatch.setenv("WORLD_SIZE", value)
    assert launched() == expected

"""The launcher behind `--processes`: codes, signals, and an end for those who would wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.processes import connect
from icl.processes import launch as module
from icl.processes.launch import launch, launched

Group = Callable[..., int]


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    """Launch processes that run given lines of Python instead of icl."""

    def run(*programs: str, joins: bool = True) -> int:
        def start(
            arguments: object, index: int, count: int, port: int, joined: str
        ) -> subprocess.Popen[bytes]:
            if joins:
                with Path(joined).open("ab") as file:
                    file.write(b".")
            return subprocess.Popen([sys.executable, "-S", "-c", programs[index]])

        monkeypatch.setattr(module, "_start", start)
        return launch([], len(programs))

    monkeypatch.setattr(module, "_LEFT", 0.3)
    monkeypatch.setattr(module, "_TERM", 0.3)
    return run


OBEY = (
    "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(130));"
    " time.sleep(60)"
)
WAIT = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
DEAF_TO_SIGINT = "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"
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


def press(*seconds: float) -> None:
    """Send this process SIGINT after some seconds."""
    for wait in seconds:
        threading.Timer(wait, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_is_handed_on_to_all(group: Group) -> None:
    press(1.0)
    assert group(OBEY, OBEY) == 130


def test_an_interrupt_before_a_process_can_hear_it_is_an_interrupt(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        group(WAIT, WAIT)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("presses", [1, 2])
def test_a_process_that_will_not_stop_is_ended(
    group: Group, presses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after a second Ctrl-C, and some time after others have obeyed the first."""
    monkeypatch.setattr(module, "GRACE", 1.0 if presses == 1 else 60.0)
    press(*(1.0 + number for number in range(presses)))
    began = time.monotonic()
    assert group(OBEY, DEAF_TO_SIGINT) == 130
    assert time.monotonic() - began < 15


def test_where_process_0_cannot_say_that_it_stops_the_launcher_does(group: Group) -> None:
    press(1.0, 2.0)
    with pytest.raises(KeyboardInterrupt):
        group(DEAF_TO_SIGINT, OBEY)


def test_one_interrupt_is_enough_while_the_processes_look_for_each_other(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    press(1.0)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        group(DEAF_TO_SIGINT, DEAF_TO_SIGINT, joins=False)
    assert time.monotonic() - began < 15
    assert capsys.readouterr().err == ""  # no word of the signals by which they were ended


def test_processes_that_never_find_each_other_are_ended_and_told(
    group: Group, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_JOINING", 1.0)
    assert group(WAIT, WAIT, joins=False) == 1
    assert capsys.readouterr().err.startswith("icl: 2 of 2 processes did not come up, so this run")


@pytest.mark.parametrize(
    ("argument", "told", "expected"),
    [
        ("/usr/bin/icl", None, "icl"),
        ("/x/icl/__main__.py", None, f"{sys.executable} -m icl"),
        ("/x/icl/__main__.py", "icl", "icl"),
    ],
)
def test_the_command_to_go_on_is_the_one_that_was_typed(
    argument: str, told: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [argument, "run"])
    monkeypatch.delenv("ICL_PROGRAM", raising=False)
    if told:
        monkeypatch.setenv("ICL_PROGRAM", told)
    assert module.program() == expected


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_wrappers_of_accelerate_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(IclError, match="drop it, and set `model"), connect(cpu=True):
        pass


def test_mixed_precision_of_accelerate_is_said_to_have_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with connect(cpu=True):
        pass
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.warns(UserWarning, match="'bf16' has no effect"), connect(cpu=True):
        pass


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("1", False), ("2", True)])
def test_a_group_that_is_there_already_is_seen(
    value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if value is not None:
        monkeypatch.setenv("WORLD_SIZE", value)
    assert launched() == expected

"""Progress: rate, time left and loss; alive in the midst of one long piece; quiet elsewhere."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator

import pytest

from icl.tools import progress as module
from icl.tools.progress import note, progress, speak, told


@pytest.fixture
def as_json() -> Iterator[None]:
    speak("json")
    yield
    speak("text")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 1.2)


def test_a_quick_job_says_nothing_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("Job") as bar:
        bar.say("a piece")
        bar.advance(1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick")
def test_one_long_piece_is_told_of_while_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Job", counted=False) as bar:
        bar.say("thinking")
        time.sleep(4.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) in (2, 3)
    assert all(line.startswith("Job: ") and line.endswith(" so far: thinking") for line in lines)
    time.sleep(2)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick", "as_json")
def test_events_of_a_job_whose_size_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Job", counted=False) as bar:
        assert list(told("abc", bar, "letter")) == ["a", "b", "c"]
        time.sleep(2.5)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [e["event"] for e in events][:2] == ["progress", "progress"]
    assert events[0]["share"] is None
    assert events[0]["doing"] == "1 letter"
    assert events[1]["doing"] == "3 letters"
    assert events[1]["unit"] == "letters/s"
    assert (events[-1]["event"], events[-1]["share"]) == ("finished", 1.0)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_note_is_a_line(form: module.Format, capsys: pytest.CaptureFixture[str]) -> None:
    speak(form)
    try:
        note("all is well.")
    finally:
        speak("text")
    said = capsys.readouterr().err
    if form == "text":
        assert said == "icl: all is well.\n"
    else:
        assert json.loads(said) == {"event": "note", "message": "all is well."}


@pytest.mark.parametrize("counted", [True, False])
def test_a_bar_on_a_terminal_leaves_nothing_behind(
    counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    with progress("Job", counted=counted) as bar:
        for _ in range(3):
            bar.did("step", 0.5)
            if counted:
                bar.estimate(1.0, 3.0)
            bar.say("walking")
        time.sleep(0.3)
    shown = terminal.getvalue()
    assert "walking" in shown
    assert ("25%" in shown) == counted
    assert shown.endswith("\x1b[2K")  # the last line is cleared

"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere, JSON if asked."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_EVENTS = 1.0

Format = Literal["text", "json"]
_format: Format = "text"  # how this process speaks on standard error; the command line sets it


def speak(form: Format) -> None:
    """Choose how this process tells its progress from now on."""
    global _format  # noqa: PLW0603  (standard error is one for the whole process, too)
    _format = form


def speaks_json() -> bool:
    """Say whether lines of JSON were asked for."""
    return _format == "json"


def event(kind: str, **values: Any) -> None:
    """Write one line of JSON on standard error, where lines of JSON were asked for."""
    if _format == "json":
        sys.stderr.write(json.dumps({"event": kind, **values}, ensure_ascii=False) + "\n")
        sys.stderr.flush()


def note(message: str) -> None:
    """Say a sentence on standard error: as a line, or as one of JSON where that was asked for."""
    if _format == "json":
        event("note", message=message)
    else:
        sys.stderr.write(f"icl: {message}\n")
        sys.stderr.flush()


class Bar:
    """The progress of one job: a share done, the seconds left, and what is being done now."""

    def __init__(self) -> None:
        self.share = 0.0
        self.left: float | None = None
        self.doing = ""
        self.loss: float | None = None
        self._start = time.monotonic()
        self._unit, self._pieces, self._since = "", 0, self._start

    def advance(self, share: float) -> None:
        """Note that a further share of the whole is done; the time left is in proportion."""
        self.share = min(1.0, self.share + share)
        self.left = (time.monotonic() - self._start) * (1 / self.share - 1)
        self._show()

    def estimate(self, spent: float, left: float) -> None:
        """Set progress from seconds: what was spent so far and what is expected to come."""
        self.share = spent / (spent + left) if spent + left > 0 else 1.0
        self.left = left
        self._show()

    def did(self, unit: str, loss: float | None = None) -> None:
        """Note that one more piece is done, an ``episode`` or a ``step``, and its loss."""
        self.loss = loss
        if unit != self._unit:  # the first piece of a kind has no rate yet
            self._unit, self._pieces, self._since = unit, 0, time.monotonic()
            return
        self._pieces += 1

    @property
    def rate(self) -> tuple[float, str] | None:
        """How many pieces are done a second, and their unit; None before two of a kind."""
        spent = time.monotonic() - self._since
        return (self._pieces / spent, self._unit) if self._pieces and spent > 0 else None

    def say(self, doing: str) -> None:
        """Name what is being done now."""
        self.doing = doing
        self._show()

    def end(self) -> None:
        """Note that the job is done."""

    def _show(self) -> None:
        """Bring the display up to date."""

    def _pace(self) -> str:
        """Write the rate for people."""
        if self.rate is None:
            return ""
        rate, unit = self.rate
        return f"{rate:.1f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


class _RichBar(Bar):
    def __init__(self, shown: Progress, title: str) -> None:
        super().__init__()
        self._shown = shown
        self._task = shown.add_task(title, total=1.0, doing="", left="", pace="")

    def _show(self) -> None:
        left = "" if self.left is None else f"about {duration(self.left)} left"
        self._shown.update(
            self._task, completed=self.share, left=left, pace=self._pace(), doing=self.doing
        )


class _PlainBar(Bar):
    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._out = sys.stderr  # held, so that a redirection inside the job does not swallow it
        self._last = self._start

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = "" if self.left is None else f", about {duration(self.left)} left"
        pace = f", {self._pace()}" if self._pace() else ""
        doing = f": {self.doing}" if self.doing else ""
        spent = duration(now - self._start)
        self._out.write(f"{self._title}: {self.share:.0%} after {spent}{left}{pace}{doing}\n")
        self._out.flush()


class _JsonBar(Bar):
    """A line of JSON a second at most, the first at once, and one at the end."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._last = float("-inf")

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_EVENTS:
            self._last = now
            self._write("progress")

    def end(self) -> None:
        self.share, self.left = 1.0, 0.0
        self._write("finished")

    def _write(self, kind: str) -> None:
        rate = self.rate
        event(
            kind,
            title=self._title,
            share=round(self.share, 4),
            seconds=round(time.monotonic() - self._start, 1),
            seconds_left=None if self.left is None else round(self.left, 1),
            rate=None if rate is None else round(rate[0], 4),
            unit=None if rate is None else f"{rate[1]}s/s",
            loss=self.loss,
            doing=self.doing,
        )


def duration(seconds: float) -> str:
    """Write a length of time for people.

    >>> duration(7.4), duration(192), duration(7300)
    ('7 s', '3 min 12 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(title: str, *, shown: bool = True) -> Iterator[Bar]:
    """Show a job's progress on stderr until the block ends; yields its `Bar`.

    On a terminal it is a bar with the time left; elsewhere, and under CI, a plain line now and
    then; after ``speak("json")`` lines of JSON.

    Args:
        title: of the job.
        shown: False for processes that leave it to another one to show what all do.
    """
    if not shown:
        yield Bar()
        return
    if _format == "json":
        bar = _JsonBar(title)
        yield bar
        bar.end()
        return
    console = Console(file=sys.stderr)
    if not console.is_terminal or os.environ.get("CI"):
        yield _PlainBar(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[pace]}"),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=console, transient=True) as rich:
        yield _RichBar(rich, title)

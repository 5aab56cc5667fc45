"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere, JSON if asked."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_EVENTS = 1.0

T = TypeVar("T")
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


def note(message: str, kind: str = "note") -> None:
    """Say a sentence on standard error: as a line, or as an event where JSON was asked for."""
    if _format == "json":
        event(kind, message=message)
    else:
        sys.stderr.write(f"icl: {message}\n")
        sys.stderr.flush()


class Bar:
    """The progress of one job: a share done, the seconds left, and what is being done now.

    The share is None where nobody knows how much there is to do.
    """

    def __init__(self, *, counted: bool = True) -> None:
        self.share: float | None = 0.0 if counted else None
        self.left: float | None = None
        self.doing = ""
        self.loss: float | None = None
        self._start = time.monotonic()
        self._unit, self._pieces, self._since = "", 0, self._start

    def advance(self, share: float) -> None:
        """Note that a further share of the whole is done; the time left is in proportion."""
        self.share = min(1.0, (self.share or 0.0) + share)
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
    def __init__(self, shown: Progress, title: str, *, counted: bool) -> None:
        super().__init__(counted=counted)
        self._shown = shown
        total = 1.0 if counted else None
        self._task = shown.add_task(title, total=total, share="", doing="", left="", pace="")

    def _show(self) -> None:
        self._shown.update(
            self._task,
            completed=self.share,
            share="" if self.share is None else f"{self.share:>4.0%}",
            left="" if self.left is None else f"about {duration(self.left)} left",
            pace=self._pace(),
            doing=self.doing,
        )


class _LineBar(Bar):
    """Lines now and then, also while the job is in the midst of one long piece."""

    every = _SECONDS_BETWEEN_LINES

    def __init__(self, title: str, *, counted: bool) -> None:
        super().__init__(counted=counted)
        self._title = title
        self._last = self._start
        self._lock = threading.Lock()  # the job and the heartbeat write
        self._out = sys.stderr  # held, so that a redirection inside the job does not swallow it

    def _show(self) -> None:
        self._show_after(self.every)

    def _show_after(self, seconds: float) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last >= seconds:
                self._last = now
                self._write()

    def _write(self) -> None:
        left = "" if self.left is None else f", about {duration(self.left)} left"
        pace = f", {self._pace()}" if self._pace() else ""
        doing = f": {self.doing}" if self.doing else ""
        spent = duration(time.monotonic() - self._start)
        done = f"{spent} so far" if self.share is None else f"{self.share:.0%} after {spent}"
        self._out.write(f"{self._title}: {done}{left}{pace}{doing}\n")
        self._out.flush()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write a line at least every so often until the block ends."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(1.0):
                self._show_after(_SECONDS_BETWEEN_LINES)

        thread = threading.Thread(target=beat, name="icl-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _JsonBar(_LineBar):
    """A line of JSON a second at most, the first at once, and one at the end."""

    every = _SECONDS_BETWEEN_EVENTS

    def __init__(self, title: str, *, counted: bool) -> None:
        super().__init__(title, counted=counted)
        self._last = float("-inf")

    def end(self) -> None:
        self.share, self.left = 1.0, 0.0
        self._event("finished")

    def _write(self) -> None:
        self._event("progress")

    def _event(self, kind: str) -> None:
        rate = self.rate
        event(
            kind,
            title=self._title,
            share=None if self.share is None else round(self.share, 4),
            seconds=round(time.monotonic() - self._start, 1),
            seconds_left=None if self.left is None else round(self.left, 1),
            rate=None if rate is None else round(rate[0], 4),
            unit=None if rate is None else f"{rate[1]}s/s",
            loss=self.loss,
            doing=self.doing,
        )


def told(items: Iterable[T], bar: Bar, unit: str) -> Iterator[T]:
    """Yield items as they come, and tell the bar how many there were."""
    for number, item in enumerate(items, start=1):
        yield item
        bar.did(unit)
        bar.say(f"{number} {unit}" if number == 1 else f"{number} {unit}s")


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
def progress(
    title: str, *, shown: bool = True, counted: bool = True, live: bool = True
) -> Iterator[Bar]:
    """Show a job's progress on stderr until the block ends; yields its `Bar`.

    On a terminal it is a bar with the time left; elsewhere, and under CI, a plain line now and
    then; after ``speak("json")`` lines of JSON.

    Args:
        title: of the job.
        shown: False for processes that leave it to another one to show what all do.
        counted: whether it is known how much there is to do.
        live: False for lines on a terminal too, beside bars of others.
    """
    if not shown:
        yield Bar(counted=counted)
        return
    console = Console(file=sys.stderr)
    json_ = _format == "json"
    if json_ or not live or not console.is_terminal or os.environ.get("CI"):
        bar = (_JsonBar if json_ else _LineBar)(title, counted=counted)
        with bar.beating():
            yield bar
        bar.end()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[share]}"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[pace]}"),
        # On a narrow terminal this is what is cut short.
        TextColumn("[dim]{task.fields[doing]}", table_column=Column(ratio=1, no_wrap=True)),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as rich:
        yield _RichBar(rich, title, counted=counted)

"""Progress with the time left: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """One job's progress in units of its own choosing; time left is in proportion to them."""

    def __init__(self, total: float) -> None:
        self.total = total
        self.done = 0.0
        self.doing = ""

    def advance(self, amount: float = 1.0) -> None:
        """Note that `amount` more units are done."""
        self.done += amount
        self._show()

    def say(self, doing: str) -> None:
        """Name what is being done now."""
        self.doing = doing
        self._show()

    def _show(self) -> None:
        """Bring the display up to date."""


class _RichBar(Bar):
    def __init__(self, progress: Progress, title: str, total: float) -> None:
        super().__init__(total)
        self._progress = progress
        self._task = progress.add_task(title, total=total, doing="")

    def _show(self) -> None:
        self._progress.update(self._task, completed=self.done, total=self.total, doing=self.doing)


class _PlainBar(Bar):
    def __init__(self, title: str, total: float) -> None:
        super().__init__(total)
        self._title = title
        self._out = sys.stderr  # held, so that a redirection inside the job does not swallow it
        self._start = time.monotonic()
        self._last = self._start

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        elapsed = now - self._start
        share = min(1.0, self.done / self.total) if self.total else 1.0
        left = f", about {elapsed * (1 / share - 1):.0f} s left" if share > 0 else ""
        doing = f": {self.doing}" if self.doing else ""
        self._out.write(f"{self._title} {share:.0%} after {elapsed:.0f} s{left}{doing}\n")
        self._out.flush()


@contextmanager
def progress(title: str, total: float) -> Iterator[Bar]:
    """Show a job of `total` units on stderr until the block ends; yields its `Bar`.

    On a terminal it is a bar with the time left; elsewhere a plain line now and then.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _PlainBar(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield _RichBar(shown, title, total)

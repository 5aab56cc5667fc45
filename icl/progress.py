"""Progress with the time left: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """The progress of one job: a share done, the seconds left, and what is being done now."""

    def __init__(self) -> None:
        self.share = 0.0
        self.left: float | None = None
        self.doing = ""
        self._start = time.monotonic()

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

    def say(self, doing: str) -> None:
        """Name what is being done now."""
        self.doing = doing
        self._show()

    def _show(self) -> None:
        """Bring the display up to date."""


class _RichBar(Bar):
    def __init__(self, shown: Progress, title: str) -> None:
        super().__init__()
        self._shown = shown
        self._task = shown.add_task(title, total=1.0, doing="", left="")

    def _show(self) -> None:
        left = "" if self.left is None else f"about {duration(self.left)} left"
        self._shown.update(self._task, completed=self.share, left=left, doing=self.doing)


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
        doing = f": {self.doing}" if self.doing else ""
        spent = duration(now - self._start)
        self._out.write(f"{self._title}: {self.share:.0%} after {spent}{left}{doing}\n")
        self._out.flush()


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
def progress(title: str) -> Iterator[Bar]:
    """Show a job's progress on stderr until the block ends; yields its `Bar`.

    On a terminal it is a bar with the time left; elsewhere a plain line now and then.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _PlainBar(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield _RichBar(shown, title)

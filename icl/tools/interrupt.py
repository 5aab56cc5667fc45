"""Ctrl-C and SIGTERM: finish what is under way, keep it, then stop.

Signals belong to the whole operating-system process, and so does what stands here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from icl.tools.progress import note

_asked = threading.Event()
ASKING = (signal.SIGINT, signal.SIGTERM)  # schedulers send SIGTERM before they kill


def asked() -> bool:
    """Say whether this run was asked to stop when its present step is done."""
    return _asked.is_set()


def ask() -> None:
    """Ask this run to stop when its present step is done."""
    _asked.set()


def stop_if_asked() -> None:
    """Raise `KeyboardInterrupt` where a stop was asked for; to be called between steps."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM raises `KeyboardInterrupt`, as Ctrl-C does, instead of killing."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled((signal.SIGTERM,), handle):
        yield


@contextmanager
def at_the_next_step(*, say: bool = True) -> Iterator[None]:
    """Within the block, a first signal asks for a stop and a second one stops at once.

    Elsewhere than in the main thread, where signals cannot be handled, nothing changes.

    Args:
        say: tell the user, on standard error, that the present step is finished first.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        if say:
            again = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else ""
            note(f"finishing this step{again}.")

    try:
        with handled(ASKING, handle):
            yield
    finally:
        _asked.clear()


@contextmanager
def handled(
    signals: Iterable[signal.Signals], handle: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Within the block, signals are handled so; elsewhere than in the main thread as before."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in signals if main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

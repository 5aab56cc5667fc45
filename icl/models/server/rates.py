"""Keeping to a server's rates: requests and tokens a minute, and pauses that it asks for."""

from __future__ import annotations

import threading
import time

_MINUTE = 60.0
_BURST = 6.0  # seconds' worth of a rate that may be used at once


class StoppedError(Exception):
    """The work was given up while this thread was waiting."""


class Clock:
    """Time, and waiting that can be cut short; tests put their own in its place."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Sleep; raises `StoppedError` when the work was given up meanwhile."""
        if self._stopped.wait(max(0.0, seconds)):
            raise StoppedError

    def stop(self) -> None:
        """Wake all that wait, and let nobody wait again until `resume`."""
        self._stopped.set()

    def resume(self) -> None:
        """Let waiting be possible again."""
        self._stopped.clear()


class _Rate:
    """A bucket that fills at a rate: taking more than there is puts it into debt, to be waited off.

    A request larger than the bucket therefore goes through, at the price of a longer wait after it.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._per_second = per_minute / _MINUTE
        self._most = max(1.0, self._per_second * _BURST)
        self._level = self._most
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Return how long to wait until the amount may be taken."""
        self._fill(now)
        short = min(amount, self._most) - self._level
        return max(0.0, short / self._per_second)

    def take(self, amount: float, now: float) -> None:
        """Take an amount, be it there or not; a negative one is given back."""
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._most, self._level + (now - self._at) * self._per_second)
        self._at = now


class Pacer:
    """Holds threads back until their request may be sent.

    Args:
        requests_per_minute, tokens_per_minute: the rates, or None.
        clock: tells the time and waits.
    """

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        now = clock.now()
        self._requests = _Rate(requests_per_minute, now) if requests_per_minute else None
        self._tokens = _Rate(tokens_per_minute, now) if tokens_per_minute else None
        self._paused_until = now

    def enter(self, tokens: int) -> None:
        """Wait until a request of so many tokens may be sent, and count it."""
        both = ((self._requests, 1), (self._tokens, tokens))
        rated = [(rate, amount) for rate, amount in both if rate is not None]
        while True:
            with self._lock:
                now = self._clock.now()
                waits = [rate.wait(amount, now) for rate, amount in rated]
                wait = max(self._paused_until - now, *waits, 0.0)
                if wait <= 0:
                    for rate, amount in rated:
                        rate.take(amount, now)
                    return
            self._clock.wait(wait)

    def correct(self, tokens: int) -> None:
        """Count so many tokens more (or fewer) than `enter` was told."""
        with self._lock:
            if self._tokens is not None:
                self._tokens.take(tokens, self._clock.now())

    def pause(self, seconds: float) -> None:
        """Let no thread send anything for so long: the server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.now() + seconds)

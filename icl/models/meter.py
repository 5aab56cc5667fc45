"""`Meter`: what a model was asked to do, counted the same whatever caches hold.

What a cache holds was computed before: by another learner, on another episode, or in another run.
A learner that asks for it is charged what computing it took, once in each piece of work, so that
its cost depends neither on who ran before nor on what lies on the disk; and the meter tells how
much of it was shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spent:
    """What some work took.

    Attributes:
        tokens: rows that went through the model, counted in whole forward passes: a pass over 6 of
            18 layers counts a third.
        seconds: wall-clock time.
        flops: floating-point operations forward, see `icl.models.flops`.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    flops: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Add up."""
        return Spent(
            self.tokens + other.tokens, self.seconds + other.seconds, self.flops + other.flops
        )

    def __sub__(self, other: Spent) -> Spent:
        """Take away what an earlier reading showed."""
        return self + other * -1

    def __mul__(self, share: float) -> Spent:
        """Take a share."""
        return Spent(self.tokens * share, self.seconds * share, self.flops * share)


@dataclass(slots=True)
class Meter:
    """Running totals of what a backbone was asked to do; a cost is a difference of two readings.

    Attributes:
        prompt_tokens: tokens that running each prompt alone would process.
        computed_tokens: rows that went through the model, see `Spent`.
        shared: what was asked for and had been computed before the present piece of work.
        scored: for a model on a server, how many label scores were got in which way.
        known: what the present piece of work has been charged already, by computing it or as
            shared; hashes of 64 bits.
    """

    prompt_tokens: int = 0
    computed_tokens: float = 0.0
    shared: Spent = field(default_factory=Spent)
    scored: Counter[str] = field(default_factory=Counter)
    known: set[int] = field(default_factory=set)

    @property
    def tokens(self) -> float:
        """Tokens computed, those that were shared among them."""
        return self.computed_tokens + self.shared.tokens

    def begin(self) -> None:
        """Begin a piece of work, to which all that caches hold is to be charged anew."""
        self.known.clear()

    def computed(self, keys: Iterable[bytes]) -> None:
        """Note what was computed just now, so that it is not charged again to this work."""
        self.known.update(map(_short, keys))

    def computed_once(self, key: bytes, spent: Spent) -> None:
        """Note what was computed just now; take it off again where this work has paid for it.

        A cache that has dropped it, or a run that was stopped, then costs no more than another.
        Seconds stay: they are those that were taken.
        """
        short = _short(key)
        if short in self.known:
            self.computed_tokens -= spent.tokens
            self.shared = self.shared - Spent(flops=spent.flops)
        self.known.add(short)

    def charge(self, key: bytes, spent: Spent) -> None:
        """Charge what a cache held and computing it took, unless this work has paid for it."""
        short = _short(key)
        if short not in self.known:
            self.known.add(short)
            self.shared = self.shared + spent


def _short(key: bytes) -> int:
    return int.from_bytes(key[:8], "big", signed=True)

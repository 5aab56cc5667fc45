"""`Pace`: how long a job of unlike pieces will still take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Kind:
    left: int
    weight: float
    seconds: float = 0.0
    done: int = 0


class Pace:
    """Seconds left of a job made of kinds of pieces, judged by what pieces of each kind took.

    A kind of which no piece is known yet is taken to cost as much as the slowest known kind,
    times its weight: an estimate that is sooner too long than too short.

    >>> pace = Pace()
    >>> pace.plan("quick", 10); pace.plan("slow", 2)
    >>> pace.left() is None
    True
    >>> pace.took("quick", 1.0); pace.left()
    11.0
    >>> pace.took("slow", 30.0); pace.left(), pace.spent
    (39.0, 31.0)
    """

    def __init__(self) -> None:
        self.spent = 0.0
        self._kinds: dict[str, _Kind] = {}

    def plan(self, kind: str, pieces: int, weight: float = 1.0) -> None:
        """Say how many pieces of a kind there are to do, at first or anew."""
        known = self._kinds.setdefault(kind, _Kind(pieces, weight))
        known.left = pieces

    def know(self, kind: str, seconds: float) -> None:
        """Note what one piece took in an earlier run."""
        found = self._kinds[kind]
        found.seconds += seconds
        found.done += 1

    def took(self, kind: str, seconds: float) -> None:
        """Note that a piece was done now, and what it took."""
        self.know(kind, seconds)
        self._kinds[kind].left -= 1
        self.spent += seconds

    def left(self) -> float | None:
        """Return the seconds that the rest is expected to take; None before anything is known."""
        known = [k.seconds / k.done for k in self._kinds.values() if k.done]
        if not known:
            return None
        slowest = max(known)
        return sum(
            k.left * (k.seconds / k.done if k.done else slowest * k.weight)
            for k in self._kinds.values()
        )

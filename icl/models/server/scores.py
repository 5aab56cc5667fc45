"""What all ways of scoring hand back: numbers, and how each was got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXACT = frozenset({"echo", "next-token"})
"""The ways that give a model's own log-probabilities."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Label scores of some prompts.

    Attributes:
        rows: log-probabilities by prompt and answer.
        ways: how many of them were got in which way. Exact, as far as the server computes exactly:
            ``echo`` and ``next-token``. Approximate: ``generated``, from the tokens that tell the
            answers apart; ``upper bound``, where the server did not name a token and it can only be
            said that it is no likelier than those it named. No probabilities at all: ``choice``
            (generation under a constraint), ``free choice`` (generation, matched to the answers)
            and ``no match``.
    """

    rows: list[list[float]]
    ways: Counter[str]


Scorer = Callable[[Sequence[str], Sequence[str]], Scores]
"""A way of scoring every answer after every prompt."""

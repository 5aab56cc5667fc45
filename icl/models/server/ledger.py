"""What was spent on a server, and the end of it when the budget is spent."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from icl.errors import IclError
from icl.models.server.config import Budget

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a reply, as the server counted them.

    Attributes:
        prompt: of the request.
        cached: of those, how many the server had in a prefix cache.
        answer: generated.
    """

    prompt: int
    cached: int
    answer: int


class Ledger:
    """Counts what is spent and refuses what would go beyond the budget.

    Requests under way are reserved with their expected tokens, so that many threads together do
    not overspend either.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self.requests = 0
        self.tokens = 0
        self.cost = 0.0

    def reserve(self, expected: Usage) -> None:
        """Count a request that is about to be sent.

        Raises:
            IclError: it would go beyond the budget; nothing is counted then.
        """
        tokens, cost = expected.prompt + expected.answer, self._price(expected)
        with self._lock:
            for unit, limit, after in (
                ("requests", self._budget.requests, self.requests + 1),
                ("tokens", self._budget.tokens, self.tokens + tokens),
                ("cost", self._budget.cost, self.cost + cost),
            ):
                if limit is not None and after > limit:
                    raise IclError(
                        f"The server's budget of {limit:g} {_UNITS[unit]} is spent (so far"
                        f" {self.requests} requests and {self.tokens} tokens); what was answered is"
                        f" kept: raise `model.server.budget.{unit}` and run again to go on from"
                        " here."
                    )
            self.requests += 1
            self.tokens += tokens
            self.cost += cost

    def settle(self, expected: Usage, actual: Usage | None) -> None:
        """Replace what was expected of a request by what it took; None: it was not answered."""
        actual = actual or Usage(0, 0, 0)
        with self._lock:
            self.tokens += actual.prompt + actual.answer - expected.prompt - expected.answer
            self.cost += self._price(actual) - self._price(expected)

    def _price(self, usage: Usage) -> float:
        inputs, outputs = self._budget.input_price or 0.0, self._budget.output_price or 0.0
        return (usage.prompt * inputs + usage.answer * outputs) / _MILLION


_UNITS = {"requests": "requests", "tokens": "tokens", "cost": "in cost"}

"""Tokens of a request, what was spent on a server, and the end of it when the budget is spent."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icl.errors import IclError
from icl.models.server.config import Budget

_MILLION = 1_000_000
_BYTES_A_TOKEN = 3  # for an estimate, before the server has counted
_MOST = 2**31  # what exceeds it is no count of tokens


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


def expected_usage(body: Mapping[str, Any]) -> Usage:
    """Estimate a request's tokens before the server has counted them."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        count = len(prompt)
    else:
        shown = prompt if isinstance(prompt, str) else json.dumps(body.get("messages"))
        count = 1 + len(shown.encode()) // _BYTES_A_TOKEN
    return Usage(count, 0, int(body.get("max_tokens") or body.get("max_completion_tokens") or 0))


def actual_usage(data: Any, expected: Usage) -> Usage:
    """Return the tokens that a reply reports, or those expected where it reports none."""
    prompt, answer = (reported(data, name) for name in ("prompt_tokens", "completion_tokens"))
    if prompt is None:
        return expected
    cached = _count(_field(_field(data.get("usage"), "prompt_tokens_details"), "cached_tokens"))
    return Usage(
        prompt,
        cached if cached is not None and cached <= prompt else 0,
        expected.answer if answer is None else answer,
    )


def reported(data: Any, name: str) -> int | None:
    """Return a count out of a reply's usage, or None where there is none that can be one."""
    return _count(_field(data.get("usage"), name))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: Any) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return value if fits else None


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
            for unit, told, limit, after in (
                ("requests", "requests", self._budget.requests, self.requests + 1),
                ("tokens", "tokens", self._budget.tokens, self.tokens + tokens),
                ("cost", "in cost", self._budget.cost, self.cost + cost),
            ):
                if limit is not None and after > limit:
                    raise IclError(
                        f"The server's budget of {limit:g} {told} is spent (so far"
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

"""Tokens of a request: as expected before it is sent, and as the server counted them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from icl.models.server.ledger import Usage

_BYTES_A_TOKEN = 3  # for an estimate, before the server has counted
_MOST = 2**31  # what exceeds it is no count of tokens


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

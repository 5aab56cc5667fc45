"""What a server's reply says: an answer, a fault that passes, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from icl.errors import IclError
from icl.models.server.secret import Secret

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_LASTING_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_SHOWN = 300  # characters of a server's message


class RefusedError(IclError):
    """The server understood a request and will not answer it.

    Attributes:
        reason: the server's own words.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnusableError(IclError):
    """The server answers, but without what is wanted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no answer.

    Attributes:
        reason: in words, fit to be shown.
        status: the HTTP status; 0 where none came.
        passing: the same request may succeed later.
        retry_after: seconds that the server asks to wait.
    """

    reason: str
    status: int = 0
    passing: bool = True
    retry_after: float | None = None


def fault_of(
    status: int, headers: Mapping[str, str], text: str, secret: Secret
) -> tuple[Any, Fault]:
    """Return a reply's JSON value, or None and what is wrong with it; neither holds the key."""
    try:
        data = secret.scrub(json.loads(text))
    except (ValueError, RecursionError):
        data = None
    if 200 <= status < 300:
        if data is None:
            return None, Fault("the reply is not JSON", status)
        return data, Fault("", status)
    code, words = _words(data, text)
    words = secret.redact(" ".join(words.split()))[:_SHOWN]  # in this order: no part of it stays
    reason = f"{status} {words}".strip().rstrip(".")
    passing = status in _PASSING and code not in _LASTING_CODES
    return None, Fault(reason, status, passing, _retry_after(headers))


def is_reply(data: Any) -> bool:
    """Say whether a JSON value is an answer: an object with at least one choice."""
    choices = data.get("choices") if isinstance(data, dict) else None
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)


def _words(data: Any, text: str) -> tuple[str, str]:
    """Return a fault's code and words, in the shapes that servers use."""
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        words = error.get("message") or error.get("detail") or json.dumps(error)
        return str(error.get("code") or error.get("type") or ""), str(words)
    if isinstance(error, str):
        return "", error
    return "", "" if "<" in text else text  # a proxy's HTML page says nothing in a sentence


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``retry-after-ms`` and ``Retry-After``, in seconds or as a date (RFC 9110, 10.2.3)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        return None if value is None else max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(headers["retry-after"])
    except (ValueError, KeyError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())

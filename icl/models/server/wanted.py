"""What is wanted of a reply: one that lacks it is not kept, and is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from icl.models.server.replies import Position, Token, positions, text_of

_CERTAIN = 0.01  # log 1, and what rounding may add to it


@dataclass(frozen=True, slots=True)
class Wanted:
    """What makes a reply an answer to what was asked.

    Attributes:
        usable: says whether a reply with a choice holds it; raises for none.
        missing: in words, what is wrong with a reply that does not.
        mend: what can be done when no other comes.
    """

    usable: Callable[[Any], bool]
    missing: str
    mend: str


def _has_text(data: Any) -> bool:
    choice = data["choices"][0]
    message = choice.get("message")
    if isinstance(message, dict):  # of a refusal the content is null
        return "content" in message and isinstance(message["content"], str | None)
    return isinstance(choice.get("text"), str)


def _has_alternatives(data: Any) -> bool:
    first = positions(data)[:1]
    return bool(first) and bool(first[0].top) and _are_scored(first)


def _has_first(data: Any) -> bool:
    first = positions(data)[:1]
    return bool(first) and _is_scored(first[0].token)


def _has_echo(data: Any) -> bool:
    found = positions(data)  # nothing stands before the first one, so it may have no score
    return bool(found) and all(_is_scored(position.token) for position in found[1:])


def _has_answer(data: Any) -> bool:
    choice, found = data["choices"][0], positions(data)
    if not text_of(data):  # the model refused, or a filter took its words
        return ("text" in choice or "message" in choice) and _are_scored(found)
    return bool(found) and bool(found[0].top) and _are_scored(found)


def _are_scored(found: list[Position]) -> bool:
    return all(_is_scored(token) for position in found for token in (position.token, *position.top))


def _is_scored(token: Token) -> bool:
    return token.log_prob <= _CERTAIN  # which nan is not


_ANOTHER_WAY = "set `model.server.scoring` to another way"
_NO_SCORES = "the reply holds no log-probabilities"

TEXT = Wanted(_has_text, "the reply holds no text", "look into the server's log")
"""Text, which may be empty."""
ALTERNATIVES = Wanted(_has_alternatives, _NO_SCORES, _ANOTHER_WAY)
"""The likeliest next tokens."""
FIRST = Wanted(_has_first, _NO_SCORES, _ANOTHER_WAY)
"""A next token."""
ECHO = Wanted(_has_echo, f"{_NO_SCORES} of the prompt", _ANOTHER_WAY)
"""The tokens of the prompt."""
ANSWER = Wanted(_has_answer, _NO_SCORES, _ANOTHER_WAY)
"""The tokens of an answer, and the likeliest in their places; or no answer."""

"""Reading replies: generated text and log-probabilities, in the shapes that servers give them.

And what all ways of scoring make of them: numbers, and how each was got.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EXACT = frozenset({"echo", "next-token"})
"""The ways that give a model's own log-probabilities."""
_ID = "token_id:"  # vLLM's `return_tokens_as_token_ids`


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a server scored.

    Attributes:
        raw: its bytes; a token may be part of a character.
        log_prob: nan where the server has none: for the first token of an echoed prompt.
        id: its id, where the server tells it.
    """

    raw: bytes
    log_prob: float
    id: int | None = None

    @property
    def sign(self) -> int | bytes:
        """What tells tokens apart: the id, or else the bytes."""
        return self.raw if self.id is None else self.id


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the text: the token that stands there, and the likeliest that could stand there.

    Attributes:
        token: the one that was generated or echoed.
        top: alternatives, as many as were asked for and given; the token itself may be among them.
    """

    token: Token
    top: tuple[Token, ...]


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


def text_of(data: Any) -> str:
    """Return the text of a reply's first choice."""
    choice = data["choices"][0]
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    # JSON can hold half a surrogate pair, which no file takes.
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""


def positions(data: Any) -> list[Position]:
    """Return the scored positions of a reply's first choice; none where the server gives none."""
    given = data["choices"][0].get("logprobs")
    if not isinstance(given, dict):
        return []
    try:
        if given.get("content") is not None:  # chat, and llama.cpp for both
            return [
                Position(_token(item), tuple(map(_token, item.get("top_logprobs") or ())))
                for item in given["content"]
            ]
        return list(_legacy(given))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return []


def _legacy(given: Mapping[str, Any]) -> Iterator[Position]:
    tokens = given.get("tokens") or []
    tops = given.get("top_logprobs") or [None] * len(tokens)
    for text, log_prob, top in zip(tokens, given["token_logprobs"], tops, strict=True):
        others = tuple(_made(other, value) for other, value in (top or {}).items())
        yield Position(_made(text, log_prob), others)


def _token(item: Mapping[str, Any]) -> Token:
    token = _made(str(item["token"]), item["logprob"])
    raw, number = item.get("bytes"), item.get("id")
    # Of a number, `bytes` would make so many zeros.
    told = isinstance(raw, list) and all(isinstance(byte, int) for byte in raw)
    return Token(
        bytes(raw or ()) if told else token.raw,
        token.log_prob,
        number if type(number) is int else token.id,
    )


def _made(text: str, log_prob: Any) -> Token:
    value = math.nan if log_prob is None or isinstance(log_prob, bool) else float(log_prob)
    number = text.removeprefix(_ID)
    identity = int(number) if number != text and number.isdecimal() else None
    return Token(text.encode(errors="surrogatepass"), value, identity)

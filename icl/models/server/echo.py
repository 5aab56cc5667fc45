"""Scoring by echo: the server repeats prompt and answer with the log-probability of each token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from icl.errors import IclError
from icl.models.server.ledger import reported
from icl.models.server.replies import Position, Scores, positions
from icl.models.server.session import Session
from icl.models.server.wanted import ECHO

_PROBE = "One, two, three, four, five, six, seven"


class EchoScorer:
    """Sums the log-probabilities of an answer's tokens in the echo of prompt + answer.

    The answer begins at the first token in which the echo differs from the echo of the prompt
    alone: a token may span the boundary.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._worked = False

    def works(self) -> bool:
        """Say whether the server echoes; some take the wish and answer without it.

        Asked in the middle of a run too: once it has, one bad reply does not change the scores.
        """
        self._worked = self._worked or self._echoes()
        return self._worked

    def _echoes(self) -> bool:
        reply = self._session.probe(self._body(_PROBE), ECHO)
        if reply is None:
            return False
        echoed = _echoed(reply)
        raw = b"".join(position.token.raw for position in echoed)
        told = raw.decode(errors="replace").endswith(_PROBE[-5:]) or all(
            position.token.id is not None for position in echoed
        )
        # Sixteen words and commas are at least four tokens to any tokenizer.
        scored = [p.token.log_prob for p in echoed[1:]]
        return len(scored) >= 3 and told and all(x < 0 for x in scored)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Scores:
        """Score every answer after every prompt; raises `IclError` for an answer of no token."""
        alone = [self._body(prompt) for prompt in prompts]
        wholes = [self._body(prompt + answer) for prompt in prompts for answer in answers]
        echoes = [_echoed(data) for data in self._session.ask_all([*alone, *wholes], ECHO)]
        told = iter(echoes[len(prompts) :])
        rows = [
            [_sum(own, next(told), prompt, answer) for answer in answers]
            for own, prompt in zip(echoes, prompts, strict=False)
        ]
        return Scores(rows, Counter({"echo": len(prompts) * len(answers)}))

    def _body(self, text: str) -> Mapping[str, Any]:
        # One token is generated, and cut off again: not every server takes none.
        return self._session.body(text, max_tokens=1, logprobs=1, echo=True)


def _echoed(data: Any) -> list[Position]:
    """Return the positions of the prompt: all but what was generated after it."""
    found, made = positions(data), reported(data, "completion_tokens")
    return found[: len(found) - (1 if made is None or made > len(found) else made)]


def _sum(alone: list[Position], whole: list[Position], prompt: str, answer: str) -> float:
    alike = [a.token.sign == b.token.sign for a, b in zip(alone, whole, strict=False)]
    begin = [*alike, False].index(False)
    if begin == len(whole):
        raise IclError(
            f"The label word {answer!r} adds no token after the prompt ending in {prompt[-20:]!r};"
            " give it a visible word."
        )
    total = sum(position.token.log_prob for position in whole[begin:])
    if math.isnan(total):
        raise IclError(
            "The server gives no log-probability for the first token of a text; give the template"
            " an instruction, so that no prompt is empty."
        )
    return total

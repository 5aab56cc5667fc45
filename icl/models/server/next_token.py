"""Scoring by next tokens: a request for each place where an answer's token may follow.

The sum of the log-probabilities of an answer's tokens, each the next token after all before it, is
the answer's log-probability: it equals the echo's, and prefix caches serve it. Answers of one token
take one request a prompt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.models.server.answers import RefusedError, UnusableError
from icl.models.server.ledger import reported
from icl.models.server.replies import Position, Scores, positions
from icl.models.server.session import Session
from icl.models.server.wanted import ALTERNATIVES, FIRST
from icl.models.tokens import EncodedPair, encode, encode_pairs

if TYPE_CHECKING:
    from icl.models.server.echo import EchoScorer

Context = tuple[int, ...]

_WIDER = 16  # how many times more alternatives are asked for when a token is not among them
_WIDEST = 2**18
_PROBE = "One, two, three — слово,"
_NOISE = 1.0  # in log-probability, between two runs of a quantised server
_ROUNDING = 1e-5  # of a sum of probabilities in float32


class NextTokenScorer:
    """Asks for the likeliest next tokens, and then for the answers' tokens that are not among them.

    A server that reports a generated token's probability as it was before `logit_bias` is made to
    generate the token; any other is asked for longer and longer lists. Where it gives no more,
    prompts are scored by echo, if there is one; and where there is none, a token that is not named
    counts as the least likely one that is: an upper bound.
    """

    def __init__(self, session: Session, tokenizer: Any, echo: EchoScorer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._echo = echo
        self._most = _WIDEST

    @property
    def _probe(self) -> Context:
        return tuple(encode(self._tokenizer, [_PROBE])[0].tolist())

    def works(self) -> bool:
        """Say whether the server names token ids, and takes ids of ours for a text of its own.

        A tokenizer that is not the model's, or another about BOS, would score another prompt.
        """
        asked = self._session.alternatives
        if not asked:
            return False
        text = self._session.body(_PROBE, max_tokens=1, logprobs=asked)
        bodies = (text, self._body(self._probe, asked))
        told = [self._session.probe(body, ALTERNATIVES) for body in bodies]
        if not all(data is not None and ALTERNATIVES.usable(data) for data in told):
            return False
        first, second = (positions(data)[0].top for data in told)
        if any(token.id is None for token in (*first, *second)):
            return False
        counts = {reported(data, "prompt_tokens") for data in told}
        ids, same = ({token.id for token in top} for top in (first, second))
        # Not all of them: llama.cpp's quantised kernels give other numbers for what its prefix
        # cache held already, 0.3 in log-probability with the packaged Gemma.
        return len(counts) == 1 and 2 * len(ids & same) >= len(ids)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> Scores:
        """Score every answer after every prompt; raises `IclError` for an answer of no token."""
        pairs = encode_pairs(self._tokenizer, prompts, answers)
        steps = [[_steps(pair) for pair in row] for row in pairs]
        wanted: dict[Context, set[int]] = {}
        for context, target in (step for row in steps for answer in row for step in answer):
            wanted.setdefault(context, set()).add(target)
        known, floors = self._next(wanted)
        missing = [
            (c, t) for c, targets in wanted.items() for t in sorted(targets - known[c].keys())
        ]
        if missing and self._can_force:
            for (context, target), value in zip(missing, self._forced(missing), strict=True):
                known[context][target] = value
        rows, ways, short = [], Counter[str](), []
        for i, row in enumerate(steps):
            absent = [any(target not in known[c] for c, target in answer) for answer in row]
            if any(absent):
                short.append(i)
            rows.append(
                [sum(known[c].get(target, floors[c]) for c, target in answer) for answer in row]
            )
            ways["upper bound"] += sum(absent)
            ways["next-token"] += len(absent) - sum(absent)
        if short and self._echo.works():
            echoed = self._echo([prompts[i] for i in short], answers)
            for i, scores in zip(short, echoed.rows, strict=True):
                rows[i] = scores
            exact = (len(prompts) - len(short)) * len(answers)
            ways = Counter({"next-token": exact}) + echoed.ways
        return Scores(rows, +ways)

    def _next(
        self, wanted: Mapping[Context, set[int]]
    ) -> tuple[dict[Context, dict[int, float]], dict[Context, float]]:
        """Return next-token log-probabilities after each context, and a bound for all others."""
        known: dict[Context, dict[int, float]] = {context: {} for context in wanted}
        floors: dict[Context, float] = {}
        todo, asked = list(wanted), self._session.alternatives
        while todo:
            found = self._ask(todo, asked)
            if found is None:
                break
            for context, position in found.items():
                listed = [*position.top, position.token]
                known[context] = {t.id: t.log_prob for t in listed if t.id is not None}
                floors[context] = _bound(position)
            todo = [
                context
                for context in todo
                # a shorter list than was asked for is all that the server gives
                if wanted[context] - known[context].keys() and len(found[context].top) >= asked
            ]
            if self._can_force:
                break
            asked = min(asked * _WIDER, self._most)
            if todo and asked <= max(len(found[context].top) for context in todo):
                break
        return known, floors

    @cached_property
    def _can_force(self) -> bool:
        """Whether a token that is forced by a bias is reported with its unbiased probability."""
        context = self._probe
        bodies = [self._body(context, self._session.alternatives)]
        listed = positions(self._session.ask_all(bodies, ALTERNATIVES)[0])
        last = listed[0].top[-1]  # the least likely one, so that a bias would show most
        if last.id is None or last.log_prob > -2 * _NOISE:
            return False
        try:  # with patience, unlike a probe at the start: scores depend on the verdict
            [reply] = self._session.ask_all([self._body(context, 1, last.id)], FIRST)
        except (RefusedError, UnusableError):
            return False
        forced = positions(reply)[0].token
        return forced.id == last.id and abs(forced.log_prob - last.log_prob) < _NOISE

    def _forced(self, missing: Sequence[tuple[Context, int]]) -> list[float]:
        """Return the log-probabilities of tokens that the server is made to generate."""
        replies = self._session.ask_all([self._body(c, 1, target) for c, target in missing], FIRST)
        found = [positions(data)[0].token for data in replies]
        for token, (_, target) in zip(found, missing, strict=True):
            if token.id != target:
                raise IclError(
                    "The server did not generate a token that it was made to; set"
                    " `model.server.scoring` to another way."
                )
        return [token.log_prob for token in found]

    def _ask(self, contexts: Sequence[Context], count: int) -> dict[Context, Position] | None:
        """Ask for so many alternatives; None where the server refuses to name so many."""
        bodies = [self._body(context, count) for context in contexts]
        if count > self._session.alternatives:
            try:
                self._session.ask_all(bodies[:1], ALTERNATIVES)
            except RefusedError:
                self._most = count // _WIDER
                return None
        found = [positions(data)[0] for data in self._session.ask_all(bodies, ALTERNATIVES)]
        return dict(zip(contexts, found, strict=True))

    def _body(self, context: Context, count: int, target: int | None = None) -> Mapping[str, Any]:
        """Return a request for the likeliest tokens, or one that makes the server generate one."""
        extra = {} if target is None else {"logit_bias": {str(target): 100}}
        return self._session.body(list(context), max_tokens=1, logprobs=count, extra=extra)


def _steps(pair: EncodedPair) -> list[tuple[Context, int]]:
    tokens = pair.tokens.tolist()
    return [(tuple(tokens[:at]), tokens[at]) for at in range(pair.answer_from, len(tokens))]


def _bound(position: Position) -> float:
    """Return what no token that is not named can exceed: the least named, and what is left over."""
    least = min(token.log_prob for token in position.top)
    rest = 1.0 - sum(math.exp(token.log_prob) for token in position.top)
    return min(least, math.log(max(rest, 0.0) + _ROUNDING))

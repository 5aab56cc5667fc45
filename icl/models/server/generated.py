"""Scoring by generated tokens: the likeliest tokens of an answer, put together to labels.

The model answers greedily, and at each place the server names the likeliest tokens. What a token
says is judged by its text: it counts for the labels whose words begin with all that was said up to
and with it, in equal parts where they are several. Along the greedy answer this is followed to the
token that tells its label from all others. It is an approximation: of a label that the greedy
answer leaves, only the tokens at the fork are seen, and a label that no named token begins has the
score of the least likely one named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from icl.models.server.by_choice import chosen_row
from icl.models.server.matching import match, plain
from icl.models.server.replies import Position, Scores, positions, text_of
from icl.models.server.session import Session
from icl.models.server.wanted import ANSWER

_TOKENS = 16  # enough to tell two labels apart in any script


def generated_scores(session: Session, prompts: Sequence[str], answers: Sequence[str]) -> Scores:
    """Score every answer after every prompt by the log-probabilities of a generated answer."""
    count = session.alternatives
    bodies = [session.body(p, max_tokens=_TOKENS, logprobs=count) for p in prompts]
    rows, ways = [], Counter[str]()
    for data in session.ask_all(bodies, ANSWER):
        found = positions(data)
        row = label_mass(found, answers) if found else [None] * len(answers)
        if any(score is not None for score in row):
            floor = min(token.log_prob for token in found[0].top or (found[0].token,))
            rows.append([floor if score is None else score for score in row])
            ways["generated"] += sum(score is not None for score in row)
            ways["upper bound"] += sum(score is None for score in row)
        else:  # the answer begins with words of its own
            chosen = match(text_of(data), answers)
            rows.append(chosen_row(chosen, len(answers)))
            ways["no match" if chosen is None else "free choice"] += len(answers)
    return Scores(rows, +ways)


def label_mass(found: Sequence[Position], answers: Sequence[str]) -> list[float | None]:
    """Return each answer's log-probability as far as the named tokens tell it; None for none."""
    words = [plain(answer) for answer in answers]
    mass: list[list[float]] = [[] for _ in answers]
    said, before = b"", 0.0
    for position in found:
        followed = _meant(said, position.token.raw, words)
        for token in {t.sign: t for t in (*position.top, position.token)}.values():
            meant = _meant(said, token.raw, words)
            if token.sign == position.token.sign and len(meant) > 1 and position is not found[-1]:
                continue  # the next place tells them apart
            if len(meant) < len(words):
                for index in meant:
                    mass[index].append(before + token.log_prob - math.log(len(meant)))
        if len(followed) < 2:
            break
        said, before = said + position.token.raw, before + position.token.log_prob
    return [_log_sum(parts) if parts else None for parts in mass]


def _meant(said: bytes, token: bytes, words: Sequence[str]) -> list[int]:
    """Return the words that may be meant by what was said and a further token."""
    old, new = (raw.decode(errors="ignore") for raw in (said, said + token))
    text, so_far = plain(new), plain(old)
    if so_far in words and not new[len(old) :][:1].isalnum():
        return [words.index(so_far)]  # "organ" and then a full stop is no "organism"
    begun = [index for index, word in enumerate(words) if word.startswith(text)]
    if not begun and not any(character.isalnum() for character in text):
        return list(range(len(words)))  # quotation marks, asterisks: nothing is said yet
    return begun


def _log_sum(parts: Sequence[float]) -> float:
    most = max(parts)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(part - most) for part in parts))

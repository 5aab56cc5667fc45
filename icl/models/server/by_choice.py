"""Scoring by choice: the model answers, and the answer is one of the labels or it is not.

It tells which label is best and nothing of the others, so the scores are no probabilities: the
chosen label has all, and where no label was chosen all are alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from icl.models.server.matching import match
from icl.models.server.replies import Scores, text_of
from icl.models.server.session import Session

RULED_OUT = -1.0e4  # finite, as `icl.learners.base.LOG_ZERO`
_TOKENS = 48  # room for a short preamble and a label in any script


def choice_scores(session: Session, prompts: Sequence[str], answers: Sequence[str]) -> Scores:
    """Score every answer after every prompt: the model generates, constrained where that is known.

    After a prompt the answer's own blank comes first; a chat's answer begins with a word.
    """
    options = [answer.strip() if session.chat else answer for answer in answers]
    extra = _constraint(session.program, options)
    bodies = [session.body(p, max_tokens=_TOKENS, extra=extra) for p in prompts]
    rows, ways = [], Counter[str]()
    for data in session.ask_all(bodies):
        chosen = match(text_of(data), answers)
        rows.append(chosen_row(chosen, len(answers)))
        way = "choice" if extra else "free choice"
        ways["no match" if chosen is None else way] += len(answers)
    return Scores(rows, ways)


def chosen_row(chosen: int | None, answers: int) -> list[float]:
    """Return the scores of a prompt whose answer is known, or of one that has none."""
    return [0.0 if chosen in (None, index) else RULED_OUT for index in range(answers)]


def _constraint(program: str, answers: Sequence[str]) -> Mapping[str, Any]:
    if program == "llamacpp":
        # GBNF strings take the escapes of JSON, but for \u with surrogate pairs.
        options = " | ".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
        return {"grammar": f"root ::= {options}"}
    if program == "vllm":
        return {"structured_outputs": {"choice": list(answers)}}
    return {}

"""`ScoreMemo`: label scores that a model gave, kept for the next learner that asks for the same.

Learners that differ only in what they make of scores, such as in-context learning with and without
calibration, put the same prompts before the same model. A call that comes again gets the very
numbers of the first, and is charged what computing them took (`icl.models.meter`), so that a cost
does not depend on who ran before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from icl.models.kept import Kept
from icl.models.meter import Meter, Spent

_BYTES = 2**26  # some hundred thousand calls of 15 queries and 5 labels


def question_key(*asked: Any) -> bytes:
    """Return the key of a question: of plain values, all on which scores depend but the model."""
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model answered to a question.

    Attributes:
        scores: shape (prompts, answers).
        spent: what computing them took.
        prompt_tokens: tokens that running each prompt alone would process.
    """

    scores: Tensor
    spent: Spent
    prompt_tokens: int

    @property
    def nbytes(self) -> int:
        """How many bytes the scores take."""
        return self.scores.nbytes


class ScoreMemo(Kept[Scored]):
    """Scores by prompts and answers, see `question_key`."""

    def __init__(self, budget: int = _BYTES) -> None:
        super().__init__(budget)

    def recall(self, key: bytes, meter: Meter) -> Tensor | None:
        """Return the scores that were kept under a question, and charge what they took.

        Args:
            key: of the question.
            meter: the model's.

        Returns:
            A tensor of the caller's own; None where there are none.
        """
        found = self.find(key)
        if found is None:
            return None
        meter.charge(key, found.spent)
        meter.prompt_tokens += found.prompt_tokens
        return found.scores.clone()

    def remember(self, key: bytes, scored: Scored, meter: Meter) -> None:
        """Keep scores that were computed just now, which the caller goes on to use."""
        meter.computed_once(key, scored.spent)
        self.keep(key, replace(scored, scores=scored.scores.clone()))

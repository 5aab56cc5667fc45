"""`ScoreMemo`: label scores that a model gave, kept for the next learner that asks for the same.

Learners that differ only in what they make of scores, such as in-context learning with and without
calibration, put the same prompts before the same model. A call that comes again gets the very
numbers of the first, and is charged what computing them took (`icl.models.meter`), so that a cost
does not depend on who ran before.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from torch import Tensor

from icl.models.meter import Meter, Spent

_BYTES = 2**26  # some hundred thousand calls of 15 queries and 5 labels


def question_key(*asked: Any) -> bytes:
    """Return the key of a question: of plain values, all on which scores depend but the model."""
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).digest()


class ScoreMemo:
    """Scores by prompts and answers, the least recently used dropped first.

    Attributes:
        budget: bytes of scores that may be kept; 0 keeps none.
        used: bytes that are kept.
    """

    def __init__(self, budget: int = _BYTES) -> None:
        self.budget = budget
        self.used = 0
        self._kept: OrderedDict[bytes, tuple[Tensor, Spent, int]] = OrderedDict()

    def clear(self) -> None:
        """Forget all scores."""
        self._kept.clear()
        self.used = 0

    def find(self, key: bytes, meter: Meter) -> Tensor | None:
        """Return the scores that were kept under a question, and charge what they took.

        Args:
            key: of the question, see `question_key`.
            meter: the model's.

        Returns:
            A tensor of the caller's own; None where there are none.
        """
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        scores, spent, tokens = self._kept[key]
        meter.charge(key, spent)
        meter.prompt_tokens += tokens
        return scores.clone()

    def keep(
        self, key: bytes, scores: Tensor, spent: Spent, prompt_tokens: int, meter: Meter
    ) -> None:
        """Keep scores that were computed just now, which took so much."""
        if scores.nbytes > self.budget:
            return
        meter.computed([key])
        self._kept[key] = scores.clone(), spent, prompt_tokens
        self.used += scores.nbytes
        while self.used > self.budget:
            self.used -= self._kept.popitem(last=False)[1][0].nbytes

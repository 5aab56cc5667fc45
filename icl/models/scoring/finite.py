"""Scores that are no numbers never become an answer: the one place that refuses them."""

from __future__ import annotations

from torch import Tensor

from icl.errors import IclError


class NotNumbersError(IclError, ValueError):
    """Scores hold NaN or infinity."""


def finite(scores: Tensor, whose: str) -> Tensor:
    """Return scores as they are.

    Args:
        scores: of any shape.
        whose: what gave them, the sentence's subject.

    Raises:
        NotNumbersError: one is NaN or infinite; whatever is largest among them would say nothing.
    """
    if not bool(scores.isfinite().all()):
        raise NotNumbersError(
            f"{whose} gave scores that are not numbers (NaN or infinity); take `dtype: float32`,"
            " or smaller steps where it trains."
        )
    return scores

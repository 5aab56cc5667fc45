"""Metrics of whole distributions over labels: negative log-likelihood and Brier score.

A row holds the natural log-probabilities of a query's labels; rows may differ in length, since
episodes may differ in their number of labels. A reference is the column of the right label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_TOLERANCE = 1e-3  # float32 log-probabilities of many labels add up to one only about


def nll(log_probs: Sequence[Sequence[float]], references: Sequence[int]) -> float:
    """Return the mean negative log-likelihood of the right labels, in nats.

    It is infinite where a right label was ruled out.

    >>> round(nll([[-0.6931, -0.6931]], [0]), 3)
    0.693
    """
    check_rows(log_probs, references)
    # adding zero turns the -0.0 of certainty into 0.0
    return float(-np.mean([row[r] for row, r in zip(log_probs, references, strict=True)])) + 0.0


def brier(log_probs: Sequence[Sequence[float]], references: Sequence[int]) -> float:
    """Return the mean Brier score, summed over the labels: 0 is best, 2 is certain and wrong.

    Brier 1950, "Verification of forecasts expressed in terms of probability".

    >>> brier([[0.0, float("-inf")], [0.0, float("-inf")]], [0, 1])
    1.0
    """
    check_rows(log_probs, references)
    total = 0.0
    for row, reference in zip(log_probs, references, strict=True):
        gap = np.exp(np.asarray(row, dtype=np.float64))
        gap[reference] -= 1
        total += float(gap @ gap)
    return total / len(references)


def predicted(log_probs: Sequence[Sequence[float]]) -> list[int]:
    """Return the column of the likeliest label of each row; of equals, the first."""
    return [int(np.argmax(row)) for row in log_probs]


def check_rows(log_probs: Sequence[Sequence[float]], references: Sequence[int]) -> None:
    """Check that rows are distributions and that references are columns of theirs.

    Raises:
        ValueError: they are not; names the row.
    """
    if len(log_probs) != len(references) or not len(references):
        raise ValueError(
            f"{len(log_probs)} rows of log-probabilities and {len(references)} references;"
            " give one of each for every query, and at least one"
        )
    for number, (row, reference) in enumerate(zip(log_probs, references, strict=True)):
        if not 0 <= reference < len(row):
            raise ValueError(
                f"the reference of row {number} is {reference}, no column of {len(row)}"
            )
        total = float(np.exp(np.asarray(row, dtype=np.float64)).sum())
        if not abs(total - 1) <= _TOLERANCE:  # NaN compares false
            raise ValueError(
                f"row {number} holds no log-probabilities: exponentiated, it adds up to {total:.4g}"
            )

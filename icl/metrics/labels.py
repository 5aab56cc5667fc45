"""Metrics of hard labels: accuracy, balanced accuracy, macro-F1 and Matthews' correlation.

Labels may be anything that can be hashed: names or columns. Columns mean the same label only
within an episode, so pool episodes by the labels' names.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]


def accuracy(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the share of predictions that are right.

    >>> accuracy(["a", "b"], ["a", "a"])
    0.5
    """
    _check(predictions, references)
    right = sum(p == r for p, r in zip(predictions, references, strict=True))
    return right / len(references)


def balanced_accuracy(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the mean, over the classes that occur among the references, of each one's recall.

    >>> balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    0.75
    """
    table = confusion(predictions, references)
    sizes = table.sum(axis=1)
    present = sizes > 0
    return float((np.diagonal(table)[present] / sizes[present]).mean())


def macro_f1(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return the mean of F1 over the classes that occur among references or predictions.

    A class that is predicted but never right, or never predicted, has F1 zero.

    >>> round(macro_f1(["a", "a", "a", "b"], ["a", "a", "b", "b"]), 4)
    0.7333
    """
    table = confusion(predictions, references)
    # 2 tp / (2 tp + fp + fn); row and column sums hold tp once each, and never are both zero
    return float((2 * np.diagonal(table) / (table.sum(axis=0) + table.sum(axis=1))).mean())


def mcc(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """Return Matthews' correlation coefficient for any number of classes, in [-1, 1].

    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
    It is 0 where references or predictions are all the same.

    >>> mcc(["a", "b", "a", "b"], ["a", "b", "a", "b"])
    1.0
    """
    table = confusion(predictions, references)
    total = table.sum()
    predicted, actual = table.sum(axis=0), table.sum(axis=1)
    shared = np.trace(table) * total - predicted @ actual
    spread = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return float(shared / np.sqrt(spread)) if spread > 0 else 0.0


def confusion(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> Counts:
    """Count pairs: a row a reference's class, a column a prediction's, classes by appearance.

    Raises:
        ValueError: unequal lengths, or nothing to judge.
    """
    _check(predictions, references)
    column: dict[Hashable, int] = {}
    for label in (*references, *predictions):
        column.setdefault(label, len(column))
    table = np.zeros((len(column), len(column)))
    for p, r in zip(predictions, references, strict=True):
        table[column[r], column[p]] += 1
    return table


def _check(predictions: Sequence[object], references: Sequence[object]) -> None:
    if len(predictions) != len(references) or not len(references):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references;"
            " give one of each for every query, and at least one"
        )

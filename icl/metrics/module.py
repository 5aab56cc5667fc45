"""What the metrics' modules for the `evaluate` library share: inputs, columns, one `compute`.

Each module under ``icl/metrics/modules`` is a class of a few lines, since ``evaluate.load`` takes
the first metric that it finds in a file. Modules whose inputs are alike combine with
``evaluate.combine``; the columns and options of one are passed over by the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import datasets
import evaluate

from icl.metrics.probabilities import predicted

_ROWS = datasets.Sequence(datasets.Value("float64"))
_TEXT, _COLUMN = datasets.Value("string"), datasets.Value("int64")
# What any metric of a combination may take beside predictions and references.
COLUMNS = ("episodes", "languages", "shots", "support_languages")
OPTIONS = ("bins", "scale", "zero_shot")


class Module(evaluate.Metric):  # type: ignore[misc]
    """A metric whose `score` is computed from predictions, references and its own columns.

    Attributes:
        inputs: the kinds of (prediction, reference) that it takes, tried in this order.
        inputs_in_words: the same for readers.
        columns: the further inputs, one value a query, that it needs.
    """

    inputs: ClassVar[Sequence[tuple[Any, Any]]]
    inputs_in_words: ClassVar[str]
    columns: ClassVar[Mapping[str, Any]] = {}

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the metric's figures by name."""
        raise NotImplementedError

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="\n\nInputs of this metric: " + self.inputs_in_words,
            features=[
                datasets.Features(predictions=p, references=r, **self.columns)
                for p, r in self.inputs
            ],
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        for name in more:
            if name not in (*COLUMNS, *OPTIONS):
                raise ValueError(f"unknown input {name!r}; known: {', '.join(COLUMNS + OPTIONS)}")
        return self.score(predictions, references, **more)


class LabelMetric(Module):
    """A metric of hard labels; rows of log-probabilities stand for their likeliest label."""

    inputs = ((_ROWS, _COLUMN), (_TEXT, _TEXT), (_COLUMN, _COLUMN))
    inputs_in_words = (
        "`predictions` are label names, columns, or rows of log-probabilities; `references` are"
        " label names, or columns for the other two."
    )

    @staticmethod
    def function(predictions: Sequence[Any], references: Sequence[Any], /) -> float:
        """Return the metric of label names or columns."""
        raise NotImplementedError

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the function's value under the metric's name."""
        return {self.name: type(self).function(hard(predictions), references)}


class RowMetric(Module):
    """A metric of whole distributions over labels."""

    inputs = ((_ROWS, _COLUMN),)
    inputs_in_words = "`predictions` are rows of log-probabilities; `references` are columns."

    @staticmethod
    def function(predictions: Sequence[Any], references: Sequence[Any], /) -> float:
        """Return the metric of rows and columns."""
        raise NotImplementedError

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the function's value under the metric's name."""
        return {self.name: type(self).function(predictions, references)}


class ColumnMetric(LabelMetric):
    """A metric of which predictions are right, and of further columns; see `of`."""

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return what `of` makes of the right and wrong predictions."""
        right = [p == r for p, r in zip(hard(predictions), references, strict=True)]
        return self.of(right, more)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> dict[str, Any]:
        """Return the figures by name, from right and wrong, the columns and the options."""
        raise NotImplementedError


class TextMetric(Module):
    """A metric of written answers, the mean over answers of `function`."""

    inputs = ((_TEXT, _TEXT),)
    inputs_in_words = "`predictions` are the written answers; `references` are one text each."

    @staticmethod
    def function(answer: str, reference: str, /) -> float:
        """Return the metric of one answer."""
        raise NotImplementedError

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], **more: Any
    ) -> dict[str, Any]:
        """Return the mean of the function's values under the metric's name."""
        function = type(self).function
        values = [function(p, r) for p, r in zip(predictions, references, strict=True)]
        return {self.name: sum(values) / len(values)}


def strings() -> Any:
    """Return the type of a column of names, for `Module.columns`."""
    return _TEXT


def numbers() -> Any:
    """Return the type of a column of whole numbers, for `Module.columns`."""
    return _COLUMN


def hard(predictions: Sequence[Any]) -> Sequence[Any]:
    """Return label names and columns as they are, and the likeliest column of rows."""
    rows = len(predictions) > 0 and not isinstance(predictions[0], str | int)
    return predicted(predictions) if rows else predictions

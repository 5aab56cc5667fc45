"""What the metrics' modules for the `evaluate` library share: inputs, columns, one `compute`.

Each module under ``icl/metrics/modules`` is a class of a few lines, since ``evaluate.load`` takes
the first metric that it finds in a file. Modules whose inputs are alike combine with
``evaluate.combine``; the columns and options of one are passed over by the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import datasets
import evaluate

from icl.metrics.groups import worst
from icl.metrics.probabilities import predicted

_ROWS = datasets.Sequence(datasets.Value("float64"))
_TEXT, _COLUMN = datasets.Value("string"), datasets.Value("int64")
# What any metric of a combination may take beside predictions and references.
COLUMNS = {"episodes": _TEXT, "languages": _TEXT, "shots": _COLUMN, "support_languages": _TEXT}
OPTIONS = ("bins", "scale", "zero_shot")

Many: TypeAlias = Sequence[Any]  # a value a query
Figures: TypeAlias = dict[str, Any]


class Module(evaluate.Metric):  # type: ignore[misc]
    """A metric whose `score` is computed from predictions, references and its own columns.

    Attributes:
        inputs: the kinds of (prediction, reference) that it takes, tried in this order.
        inputs_in_words: the same for readers.
        columns: the names of the further inputs, one value a query, that it needs.
        function: the metric of all predictions and references, where it is one figure.
    """

    inputs: ClassVar[Sequence[tuple[Any, Any]]]
    inputs_in_words: ClassVar[str]
    columns: ClassVar[Sequence[str]] = ()
    function: ClassVar[Callable[..., float]]

    def score(self, predictions: Many, references: Many, **more: Any) -> Figures:
        """Return the metric's figures by name: the function's value under the metric's name."""
        return {self.name: type(self).function(predictions, references)}

    def _info(self) -> Any:
        columns = {name: COLUMNS[name] for name in self.columns}
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="\n\nInputs of this metric: " + self.inputs_in_words,
            features=[
                datasets.Features(predictions=p, references=r, **columns) for p, r in self.inputs
            ],
        )

    def _compute(self, predictions: Many, references: Many, **more: Any) -> Figures:
        known = (*COLUMNS, *OPTIONS)
        for name in more:
            if name not in known:
                raise ValueError(f"unknown input {name!r}; known: {', '.join(known)}")
        return self.score(predictions, references, **more)


class LabelMetric(Module):
    """A metric of hard labels; rows of log-probabilities stand for their likeliest label."""

    inputs = ((_ROWS, _COLUMN), (_TEXT, _TEXT), (_COLUMN, _COLUMN))
    inputs_in_words = (
        "`predictions` are label names, columns, or rows of log-probabilities; `references` are"
        " label names, or columns for the other two."
    )

    def score(self, predictions: Many, references: Many, **more: Any) -> Figures:
        """Return the function's value, of label names or columns, under the metric's name."""
        return super().score(hard(predictions), references)


class RowMetric(Module):
    """A metric of whole distributions over labels."""

    inputs = ((_ROWS, _COLUMN),)
    inputs_in_words = "`predictions` are rows of log-probabilities; `references` are columns."


class ColumnMetric(LabelMetric):
    """A metric of which predictions are right, and of further columns; see `of`."""

    def score(self, predictions: Many, references: Many, **more: Any) -> Figures:
        """Return what `of` makes of the right and wrong predictions."""
        right = [p == r for p, r in zip(hard(predictions), references, strict=True)]
        return self.of(right, more)

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> Figures:
        """Return the figures by name, from right and wrong, the columns and the options."""
        raise NotImplementedError


class WorstMetric(ColumnMetric):
    """Accuracy in the group where it is lowest, and which that is; groups stand in one column."""

    def of(self, right: Sequence[bool], more: Mapping[str, Any]) -> Figures:
        """Return that accuracy and the group."""
        group, accuracy = worst(right, more[self.columns[0]])
        return {f"{self.name}_accuracy": accuracy, self.name: group}


class TextMetric(Module):
    """A metric of written answers: the mean over answers of `function`.

    Attributes:
        corpus: the same of all answers together, where that is no mean of theirs.
    """

    inputs = ((_TEXT, _TEXT),)
    inputs_in_words = "`predictions` are the written answers; `references` are one text each."
    corpus: ClassVar[Callable[..., float] | None] = None

    def score(self, predictions: Many, references: Many, **more: Any) -> Figures:
        """Return the mean under the metric's name, and the figure of the whole if there is one."""
        function, corpus = type(self).function, type(self).corpus
        values = [function(p, r) for p, r in zip(predictions, references, strict=True)]
        found = {self.name: sum(values) / len(values)}
        if corpus is not None:
            found[f"corpus_{self.name}"] = corpus(predictions, references)
        return found


def hard(predictions: Sequence[Any]) -> Sequence[Any]:
    """Return label names and columns as they are, and the likeliest column of rows."""
    rows = len(predictions) > 0 and not isinstance(predictions[0], str | int)
    return predicted(predictions) if rows else predictions

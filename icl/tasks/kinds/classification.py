"""One label out of several for each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from icl.tasks.kinds.base import Kind, Metric, Target
from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.cells import label_of
from icl.tasks.sources.schema import Columns
from icl.tasks.task import Labels


class Classification(Kind):
    """Each example has one label; an episode asks for one of as many labels as it has ways."""

    single: ClassVar[bool] = True
    some_ways: ClassVar[bool] = True

    def target(self, row: Mapping[str, Any], columns: Columns, task: Vocabulary) -> Target:
        """Return the label in the row."""
        return Target(task.find(label_of(row, columns.label)))

    def strata(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Balance over the labels."""
        return labels

    def stratum(self, label: str) -> str:
        """Return the label."""
        return label

    def among(self, labels: tuple[str, ...], strata: tuple[str, ...]) -> tuple[str, ...]:
        """Ask for the labels that were drawn, in the order of the draw."""
        return strata

    def measures(self, labels: Labels) -> Mapping[str, Metric]:
        """Count the labels that are right."""
        return {"accuracy": Metric(lambda a, right: float(a == right), 1 / len(labels))}

    def show(self, answer: str, labels: Labels) -> str:
        """Return the label's word."""
        return dict(zip(labels.names, labels.words, strict=True)).get(answer, answer)


CLASSIFICATION = Classification()  # the kind of what says none

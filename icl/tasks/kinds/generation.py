"""A text that a learner writes, judged against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from icl.metrics.written import METRICS, check
from icl.tasks.kinds.base import Kind, Metric, Target
from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.cells import shown
from icl.tasks.sources.schema import Columns
from icl.tasks.task import Labels
from icl.tools.yamlfile import fault


class Generation(Kind):
    """Each row has a reference text in place of a label.

    Attributes:
        metrics: for generation, by which metrics an answer is judged.
    """

    labelled: ClassVar[bool] = False
    writes: ClassVar[bool] = True

    metrics: tuple[Literal["exact_match", "token_f1", "chrf", "bleu", "rouge"], ...] = ()

    def check(self, task: Vocabulary) -> None:
        """Ask for metrics, and for no labels."""
        super().check(task)
        if not self.metrics:
            raise fault("a generation task needs `metrics`, e.g. [exact_match]")

    def target(self, row: Mapping[str, Any], columns: Columns, task: Vocabulary) -> Target:
        """Return the reference."""
        return Target(shown(row, "reference", columns.label))

    def measures(self, labels: Labels) -> Mapping[str, Metric]:
        """Return the task's metrics."""
        check(self.metrics)
        return {name: Metric(METRICS[name]) for name in self.metrics}

"""One of each example's own options, by the letter that stands before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from icl.errors import IclError, did_you_mean
from icl.tasks.kinds.base import Target
from icl.tasks.kinds.classification import CLASSIFICATION, Classification
from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.cells import IncompleteError, label_of, shown, value_at
from icl.tasks.sources.schema import Columns
from icl.tasks.task import label_name
from icl.tools.yamlfile import fault


class MultipleChoice(Classification):
    """Each row has options, which are fields under the labels' names (A, B, …).

    The right one is given by label, by text, or by `label_map`. Every example shows all options, so
    all labels take part in every episode; and since the options are fields, an episode is one of
    classification.
    """

    some_ways: ClassVar[bool] = False

    @property
    def in_episode(self) -> Classification:
        """Classification, unless somebody's own kind is derived from this one."""
        return CLASSIFICATION if type(self) is MultipleChoice else self

    def check_columns(self, task: str, columns: Columns, labels: Sequence[str]) -> None:
        """Ask for the columns of the options."""
        if columns.options is None:
            raise fault(f"the task {task!r} is multiple choice; name the columns of its `options`")
        if isinstance(columns.options, tuple) and len(columns.options) != len(labels):
            raise fault(
                f"the task {task!r} has {len(labels)} labels but there are "
                f"{len(columns.options)} columns of options; give one each",
                "options",
            )

    def shows(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the labels, under which the options stand."""
        return tuple(labels)

    def target(self, row: Mapping[str, Any], columns: Columns, task: Vocabulary) -> Target:
        """Return the right option's label, and the options."""
        options = _options(row, columns.options, task.labels)
        return Target(_chosen(label_of(row, columns.label), options, task), options)


def _options(
    row: Mapping[str, Any], columns: str | tuple[str, ...] | None, labels: tuple[str, ...]
) -> dict[str, str]:
    """Return label -> the option's text."""
    if isinstance(columns, str):
        values = value_at(row, columns)
        if not isinstance(values, list | tuple):
            raise IclError(f"the column {columns!r} holds no list of options; give one.")
        if len(values) != len(labels):
            raise IncompleteError(
                f"there are {len(values)} options and {len(labels)} labels; give one each, or "
                "leave such rows out with `incomplete: skip`."
            )
        columns = tuple(f"{columns}.{place}" for place in range(len(values)))
    options = {
        label: shown(row, f"option {label}", column)
        for label, column in zip(labels, columns or (), strict=True)
    }
    seen: dict[str, str] = {}
    for label, text in options.items():
        first = seen.setdefault(label_name(text), label)  # as the right one is looked up
        if first != label:
            raise IncompleteError(f"the options {first!r} and {label!r} are the same; mend one.")
    return options


def _chosen(raw: str, options: Mapping[str, str], task: Vocabulary) -> str:
    label = task.label_map.get(raw, raw)
    by_text = next((name for name, text in options.items() if label_name(text) == raw), None)
    if label in task.labels:
        if by_text not in (None, label) and raw not in task.label_map:
            raise IclError(
                f"the answer {raw!r} is a label, and the text of the option {by_text!r} too; give"
                " the labels other names, or say in `label_map` which it is."
            )
        return label
    if by_text is not None:
        return by_text
    known = [*task.label_map, *task.labels, *options.values()]
    raise IclError(
        f"the answer {raw!r} is neither a label nor an option; correct it, or say in `label_map` "
        f"which it is.{did_you_mean(raw, known)}"
    )

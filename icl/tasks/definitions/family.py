"""The schema of a task definition: one YAML file a family, whose parts fit each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from icl.errors import did_you_mean
from icl.tasks.definitions.task import TaskDefinition, check_templates
from icl.tasks.kinds.task_labels import Label
from icl.tasks.sources.registry import AnySource
from icl.tasks.sources.schema import Columns, Strict
from icl.tasks.template import RESERVED
from icl.tools.yamlfile import fault, faults_within

Apart = Literal["class", "language", "task", "id"]


class SplitDefinition(Strict):
    """One meta-split.

    Attributes:
        languages: which languages it draws from.
        tasks: which tasks; by default all.
        data: which data splits of the source; by default all.
        labels: which labels; by default all.
        share: which share of the items, as two numbers from 0 to 1: items are dealt by a hash of
            their id, so that [0, 0.8] and [0.8, 1] are apart in every language.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] | None = Field(default=None, min_length=1)
    data: tuple[str, ...] | None = Field(default=None, min_length=1)
    labels: tuple[Label, ...] | None = Field(default=None, min_length=1)
    share: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _lists_are_sets_and_share_is_a_range(self) -> SplitDefinition:
        for name in ("languages", "tasks", "data", "labels"):
            values = getattr(self, name) or ()
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise fault(f"{value!r} stands twice; remove one", name, place)
        if self.share and not 0 <= self.share[0] < self.share[1] <= 1:
            raise fault("the share must rise within 0 and 1, e.g. [0, 0.8]", "share")
        return self


class Definition(Strict):
    """A task family as its YAML file gives it.

    Attributes:
        extends: the name or path of a definition that this one changes: mappings are merged, other
            values replaced, and null removes.
        sources: where examples come from; the first that is at hand is read.
        data: names of the source's own splits, where it has any.
        disjoint: pairs of meta-splits that must share no ``class``, ``language``, ``task`` or
            ``id``.
        licence, citation, url: of the data.
        checked: what was looked up about the data, and where.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str
    licence: str
    sources: tuple[AnySource, ...] = Field(min_length=1)
    tasks: Mapping[str, TaskDefinition] = Field(min_length=1)
    splits: Mapping[str, SplitDefinition] = Field(min_length=1)
    data: tuple[str, ...] = ()
    disjoint: tuple[tuple[str, str, Apart], ...] = ()
    citation: str = ""
    url: str = ""
    checked: str = ""
    extends: str | None = None

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Definition:
        _check_data(self)
        _check_splits(self)
        _check_disjoint(self)
        for (place, source), (name, task) in itertools.product(
            enumerate(self.sources), self.tasks.items()
        ):
            columns = task.columns_in(source)
            _check_columns(name, task, columns, "sources", place, "columns")
            check_templates(name, task, columns)
        return self

    def tasks_of(self, split: SplitDefinition) -> tuple[str, ...]:
        """Return the names of a split's tasks."""
        return split.tasks or tuple(self.tasks)


def _check_disjoint(definition: Definition) -> None:
    for place, (one, other, apart) in enumerate(definition.disjoint):
        for i, name in enumerate((one, other)):
            if name not in definition.splits:
                hint = did_you_mean(name, definition.splits)
                raise fault(f"unknown split {name!r}.{hint}", "disjoint", place, i)
        shared = _SHARED[apart](definition, definition.splits[one], definition.splits[other])
        if shared:
            raise fault(
                f"the splits {one!r} and {other!r} are to share no {apart} but share "
                f"{', '.join(sorted(shared))}", "disjoint", place,
            )  # fmt: skip


def _check_data(definition: Definition) -> None:
    for place, source in enumerate(definition.sources):
        at = ("sources", place)
        if not source.has_splits and definition.data:
            raise fault(f"{source.type!r} has no data splits; remove `data`", "data")
        if source.has_splits and not definition.data:
            raise fault("give `data`, names of the source's own splits, e.g. [train, test]", *at)
        with faults_within(*at):
            source.check(definition.data)


def _check_splits(definition: Definition) -> None:
    for name, split in definition.splits.items():
        at = ("splits", name)
        _check_known("an unknown task", split.tasks, definition.tasks, *at, "tasks")
        _check_known("unknown data", split.data, definition.data, *at, "data")
        labels = [x for t in definition.tasks_of(split) for x in definition.tasks[t].labels]
        _check_known("an unknown label", split.labels, labels, *at, "labels")
        for task in definition.tasks_of(split):
            if split.labels and not definition.tasks[task].kind.single:
                raise fault(
                    f"the examples of {task!r} have no single label to go by; name its `tasks`,"
                    " `data` or `share`", *at, "labels",
                )  # fmt: skip


def _check_known(what: str, given: Any, known: Any, *at: str) -> None:
    for place, value in enumerate(given or ()):
        if value not in known:
            raise fault(f"names {what} {value!r}.{did_you_mean(value, known)}", *at, place)


def _languages(definition: Definition, a: SplitDefinition, b: SplitDefinition) -> set[str]:
    return set(a.languages) & set(b.languages)


def _tasks(definition: Definition, a: SplitDefinition, b: SplitDefinition) -> set[str]:
    return set(definition.tasks_of(a)) & set(definition.tasks_of(b))


def _classes(definition: Definition, a: SplitDefinition, b: SplitDefinition) -> set[str]:
    tasks = _tasks(definition, a, b)
    labels = {label for task in tasks for label in definition.tasks[task].labels}
    return labels & set(a.labels or labels) & set(b.labels or labels)


def _ids(definition: Definition, a: SplitDefinition, b: SplitDefinition) -> set[str]:
    (a_low, a_high), (b_low, b_high) = a.share or (0, 1), b.share or (0, 1)
    if a_high <= b_low or b_high <= a_low:
        return set()
    # without data splits every id is in every split
    every = definition.data or ("all",)
    return set(a.data or every) & set(b.data or every)


_SHARED = {"language": _languages, "task": _tasks, "class": _classes, "id": _ids}


def _check_columns(name: str, task: TaskDefinition, columns: Columns, *at: str | int) -> None:
    for field in columns.fields:
        if field in RESERVED:
            raise fault(
                f"the field {field!r} has the name of a word of Jinja's own, which no template can"
                f" show; write field_{field}: {columns.fields[field]}", *at, "fields", field,
            )  # fmt: skip
    with faults_within(*at):
        task.kind.check_columns(name, columns, task.labels)
    for field in columns.fields:
        if field in task.kind.shows(task.labels):
            raise fault(
                f"the field {field!r} has the name of one of the kind of {name!r}; rename it",
                *at, "fields", field,
            )  # fmt: skip

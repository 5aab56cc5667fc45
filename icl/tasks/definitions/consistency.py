"""What the parts of a definition must be to each other; each fault points to its field."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from icl.errors import did_you_mean
from icl.tasks.template import RESERVED, template_fields
from icl.tools.yamlfile import fault, faults_within

if TYPE_CHECKING:
    from icl.tasks.definitions.family import (
        Definition,
        SplitDefinition,
        TaskDefinition,
        TemplateChange,
        TemplateDefinition,
    )
    from icl.tasks.sources.schema import Columns


def check_definition(definition: Definition) -> None:
    """Raise a fault that names its field for the first part that does not fit the others."""
    _check_data(definition)
    _check_splits(definition)
    for place, (one, other, kind) in enumerate(definition.disjoint):
        for i, name in enumerate((one, other)):
            if name not in definition.splits:
                hint = did_you_mean(name, definition.splits)
                raise fault(f"unknown split {name!r}.{hint}", "disjoint", place, i)
        shared = _shared(definition, definition.splits[one], definition.splits[other], kind)
        if shared:
            raise fault(
                f"the splits {one!r} and {other!r} are to share no {kind} but share "
                f"{', '.join(sorted(shared))}",
                "disjoint",
                place,
            )
    for (place, source), (name, task) in itertools.product(
        enumerate(definition.sources), definition.tasks.items()
    ):
        columns = task.columns_in(source)
        for field in columns.fields:
            if field in RESERVED:
                raise fault(
                    f"the field {field!r} has the name of a word of Jinja's own, which no template"
                    f" can show; write field_{field}: {columns.fields[field]}",
                    "sources", place, "columns", "fields", field,
                )  # fmt: skip
        _check_options(name, task, columns, place)
        _check_templates(name, task, columns)


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


def _check_known(what: str, given: Any, known: Any, *at: str) -> None:
    for place, value in enumerate(given or ()):
        if value not in known:
            raise fault(f"names {what} {value!r}.{did_you_mean(value, known)}", *at, place)


def _shared(definition: Definition, a: SplitDefinition, b: SplitDefinition, kind: str) -> set[str]:
    """Return what two splits share of a kind."""
    if kind == "language":
        return set(a.languages) & set(b.languages)
    tasks = set(definition.tasks_of(a)) & set(definition.tasks_of(b))
    if kind == "task":
        return tasks
    if kind == "class":
        labels = {label for task in tasks for label in definition.tasks[task].labels}
        return labels & set(a.labels or labels) & set(b.labels or labels)
    (a_low, a_high), (b_low, b_high) = a.share or (0, 1), b.share or (0, 1)
    if a_high <= b_low or b_high <= a_low:
        return set()
    # without data splits every id is in every split
    every = definition.data or ("all",)
    return set(a.data or every) & set(b.data or every)


def _check_options(name: str, task: TaskDefinition, columns: Columns, source: int) -> None:
    if task.kind != "multiple_choice":
        return
    at = ("sources", source, "columns")
    if columns.options is None:
        raise fault(f"the task {name!r} is multiple choice; name the columns of its `options`", *at)
    if isinstance(columns.options, tuple) and len(columns.options) != len(task.labels):
        raise fault(
            f"the task {name!r} has {len(task.labels)} labels but there are "
            f"{len(columns.options)} columns of options; give one each",
            *at,
            "options",
        )
    for field in columns.fields:
        if field in task.labels:
            raise fault(
                f"the field {field!r} has the name of a label of {name!r}, which is an option's; "
                "rename it",
                *at,
                "fields",
                field,
            )


def _check_templates(name: str, task: TaskDefinition, columns: Columns) -> None:
    """Check that templates show fields that the rows have, and targets the label."""
    known = [*columns.fields, *(task.labels if task.kind == "multiple_choice" else ())]
    for own, template in task.named_templates.items():
        at = ("tasks", name, *(("template",) if task.template else ("templates", own)))
        _check_template(template, known, at)
        for language, change in template.languages.items():
            _check_template(change, known, (*at, "languages", language))


def _check_template(
    template: TemplateDefinition | TemplateChange, known: Sequence[str], at: Sequence[str]
) -> None:
    if template.input is not None:
        shown = template_fields(template.input)
        if not shown:
            raise fault(f"the template shows no field; known: {', '.join(known)}", *at, "input")
        for field in sorted(shown - set(known)):
            hint = did_you_mean(field, known)
            raise fault(f"the template shows an unknown field {field!r}.{hint}", *at, "input")
    if template.target is not None and template_fields(template.target) != {"label"}:
        raise fault("a target shows {{ label }} and nothing else", *at, "target")

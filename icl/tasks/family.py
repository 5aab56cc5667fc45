"""Loading a task family by name or path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.extends import find_definition, read_definition
from icl.tasks.definitions.family import Definition, SplitDefinition
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.sources.choose import open_source


def load_family(
    name_or_path: str, *, data: str | Path | None = None, template: str | None = None
) -> TaskFamily:
    """Load a task family.

    Args:
        name_or_path: the name of a definition that icl ships, or the path of a YAML file.
        data: the directory of a family that is read from local files.
        template: which of the tasks' named templates to use; by default each task's first.

    Raises:
        IclError: no such family or template, a definition that is not right, or data that are not
            at hand.
    """
    definition = read_definition(find_definition(name_or_path))
    found = build_family(definition, data=data, template=template)
    place = None if data is None else str(data)
    return replace(found, loaded_as={"family": name_or_path, "data": place, "template": template})


def build_family(
    definition: Definition, *, data: str | Path | None = None, template: str | None = None
) -> TaskFamily:
    """Make the family of a definition, see `load_family`."""
    read = open_source(definition, None if data is None else Path(data))
    for task in definition.tasks.values():
        if template is not None and template not in task.named_templates:
            raise IclError(
                f"Task family {definition.name!r} has no template {template!r}."
                + did_you_mean(template, task.named_templates)
            )

    @cache
    def load(task: str, language: str) -> Task:
        if task not in definition.tasks:
            raise IclError(
                f"Task family {definition.name!r} has no task {task!r}."
                + did_you_mean(task, definition.tasks)
            )
        own = definition.tasks[task]
        examples, lone = read(task, language)
        chosen = own.named_templates[template or next(iter(own.named_templates))]
        return Task(
            name=task,
            language=language,
            examples=examples,
            labels=own.labels,
            words=own.words_in(language),
            template=chosen.build(language),
            kind=own.kind,
            licence=definition.licence,
            source=definition.url,
            lone=lone,
        )

    splits = {
        name: Split(
            name=name,
            tasks=definition.tasks_of(split),
            languages=split.languages,
            allows=_allows(split),
        )
        for name, split in definition.splits.items()
    }
    return TaskFamily(definition.name, load, splits, definition.disjoint)


def _allows(split: SplitDefinition) -> Callable[[str, str, str], bool] | None:
    """Return what a split admits; a parallel id begins with the name of its data split."""
    if split.data is None and split.labels is None and split.share is None:
        return None

    def allows(task: str, label: str, parallel_id: str) -> bool:
        return (
            (split.data is None or parallel_id.split("/", 1)[0] in split.data)
            and (split.labels is None or label in split.labels)
            and (split.share is None or split.share[0] <= _place(parallel_id) < split.share[1])
        )

    return allows


@cache
def _place(parallel_id: str) -> float:
    """Deal an item a number in [0, 1), the same on any machine."""
    digest = hashlib.sha256(parallel_id.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

"""Loading a task family by name or path."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

from icl.errors import IclError, did_you_mean
from icl.shipped import shipped
from icl.tasks.definition import Definition
from icl.tasks.sources import open_source
from icl.tasks.task import Split, Task, TaskFamily
from icl.yamlfile import load_yaml


def load_family(name_or_path: str, *, data: str | Path | None = None) -> TaskFamily:
    """Load a task family.

    Args:
        name_or_path: the name of a definition that icl ships, or the path of a YAML file.
        data: the directory of a family that is read from local files.

    Raises:
        IclError: no such family, a definition that is not right, or data that are not at hand.
    """
    definition = load_yaml(_find(name_or_path), Definition)
    read = open_source(definition, None if data is None else Path(data))

    @cache
    def load(task: str, language: str) -> Task:
        if task not in definition.tasks:
            raise IclError(
                f"Task family {definition.name!r} has no task {task!r}."
                + did_you_mean(task, definition.tasks)
            )
        own = definition.tasks[task]
        return Task(
            name=task,
            language=language,
            examples=tuple(read(task, language)),
            labels=own.labels,
            words=own.words_in(language),
            template=own.template.build(),
            licence=definition.licence,
            source=definition.url,
        )

    splits = {
        name: Split(
            name=name,
            tasks=split.tasks or tuple(definition.tasks),
            languages=split.languages,
            allows=None if split.data is None else _allow(split.data),
        )
        for name, split in definition.splits.items()
    }
    return TaskFamily(definition.name, load, splits, _apart_throughout(definition))


def family_names() -> tuple[str, ...]:
    """Return the names of the families that icl ships."""
    return tuple(sorted(path.stem for path in shipped("tasks").glob("*.yaml")))


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return Path(name_or_path).expanduser()
    if name_or_path not in family_names():
        raise IclError(
            f"No task family {name_or_path!r}." + did_you_mean(name_or_path, family_names())
        )
    return shipped("tasks") / f"{name_or_path}.yaml"


def _apart_throughout(definition: Definition) -> tuple[str, ...]:
    """Return the kinds by which every pair of splits is apart, which samplers check once more."""
    pairs = {frozenset(pair) for pair in itertools.combinations(definition.splits, 2)}
    return tuple(
        kind
        for kind in ("language", "task", "id")
        if pairs <= {frozenset((a, b)) for a, b, what in definition.disjoint if what == kind}
    )


def _allow(parts: tuple[str, ...]) -> Callable[[str, str, str], bool]:
    """Admit the ids of some data splits: a parallel id begins with its data split's name."""
    return lambda task, label, parallel_id: parallel_id.split("/", 1)[0] in parts

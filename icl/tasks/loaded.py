"""`Task`, `Split`, `TaskFamily`: tasks as they are loaded, for episodes to be drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from icl.errors import IclError, did_you_mean
from icl.tasks.kinds.base import Kind
from icl.tasks.kinds.classification import CLASSIFICATION
from icl.tasks.task import Example
from icl.tasks.template import Template


@dataclass(frozen=True, slots=True)
class Task:
    """A task in one language: examples, label set and template. Immutable.

    Attributes:
        name: the task's name, shared by its languages.
        language: the language of `examples`.
        examples: any sequence; large sources give a lazy one.
        labels: canonical label names in a fixed order.
        words: label name -> word shown to a language model, in this language or the default one.
        kind: what it asks.
        lone: label -> file and row, for labels with a single example.
    """

    name: str
    language: str
    examples: Sequence[Example]
    labels: tuple[str, ...]
    words: Mapping[str, str]
    template: Template
    kind: Kind = CLASSIFICATION
    licence: str = ""
    source: str = ""
    lone: Mapping[str, str] = field(default_factory=dict)

    @property
    def strata(self) -> tuple[str, ...]:
        """What episodes balance examples over: the labels, or what the kind says."""
        return self.kind.strata(self.labels)


@dataclass(frozen=True, slots=True)
class Split:
    """A named meta-split: the tasks and languages that it may draw from, and which ids and classes.

    `allows` decides on (task name, label, parallel id); None admits all.
    """

    name: str
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    allows: Callable[[str, str, str], bool] | None = None


@dataclass(frozen=True, slots=True)
class TaskFamily:
    """A named set of tasks x languages with named meta-splits.

    Attributes:
        load: returns the task of a (name, language) pair; cached by whoever builds the family.
        splits: meta-splits by name, usually ``train``, ``validation`` and ``test``.
        disjoint: what pairs of splits have apart, as (split, split, kind), where the kind is
            ``class``, ``language``, ``task`` or ``id``. Samplers refuse a pair that does not.
        loaded_as: the arguments that give the same family to `load_family`; None for one that was
            made or changed in Python.
    """

    name: str
    load: Callable[[str, str], Task]
    splits: Mapping[str, Split]
    disjoint: tuple[tuple[str, str, str], ...] = field(default=())
    loaded_as: Mapping[str, str | None] | None = None

    def split(self, name: str) -> Split:
        """Return a meta-split by name; raises `IclError` that names the nearest one."""
        if name not in self.splits:
            raise IclError(
                f"Task family {self.name!r} has no split {name!r}."
                + did_you_mean(name, self.splits)
            )
        return self.splits[name]

    def examples(self, split: str, task: str, language: str) -> list[Example]:
        """Return the examples of a task and language that a split may draw from."""
        allows = self.split(split).allows
        examples = self.load(task, language).examples
        if allows is None:
            return list(examples)
        return [e for e in examples if allows(task, e.label, e.parallel_id)]

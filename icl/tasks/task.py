"""The nouns of the task layer: `Example`, `Labels`, `Task`, `Split`, `TaskFamily`."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from icl.errors import IclError, did_you_mean
from icl.tasks.template import Fields, Template
from icl.tasks.words import clash

Value = TypeVar("Value")
Kind = Literal["classification", "multiple_choice", "generation"]


def normalise(text: str) -> str:
    """Fold a text so that copies that differ in case, width, composition or blanks are equal.

    >>> normalise("  Ｃafe\\u0301 au LAIT ") == normalise("café au lait")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label_name(text: str) -> str:
    """Return a label as it is compared everywhere: composed (NFC), without blanks around it.

    >>> label_name(" cafe\\u0301 ") == label_name("café")
    True
    """
    return unicodedata.normalize("NFC", text).strip()


def keyed_by_label(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Return what is said of labels, (name, value), by their names as `label_name` spells them.

    >>> keyed_by_label([(" good", 1), ("bad", 0)])
    {'good': 1, 'bad': 0}

    Raises:
        ValueError: two names are one label, of which different things are said.
    """
    found: dict[str, Value] = {}
    for name, value in pairs:
        if found.setdefault(label_name(name), value) != value:
            raise ValueError(f"{label_name(name)!r} stands twice, in two spellings; remove one")
    return found


def near_labels(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of labels that may be one label spelt in two ways, such as Good and good.

    >>> near_labels(["good", "Good", "bad", "1", "1.0"])
    [('good', 'Good'), ('1', '1.0')]
    """
    first: dict[str, str] = {}
    found = []
    for name in names:
        key = normalise(name)
        with suppress(ValueError, OverflowError):
            key = str(float(key))
        if first.setdefault(key, name) != name:
            found.append((first[key], name))
    return found


def warn_of_near_labels(names: Iterable[str], where: str) -> None:
    """Warn of labels that differ so little that they may be one."""
    for one, other in near_labels(names):
        warnings.warn(
            f"{where} has the labels {one!r} and {other!r}, which count as two; spell them alike"
            " if they are one.",
            stacklevel=3,
        )


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example of a task in one language.

    Attributes:
        id: unique within its task and language.
        fields: the text fields that a template may show, by name.
        label: the label's canonical name (for generation, the reference text).
        language: the language's code as the source writes it.
        parallel_id: shared by translations of the same item in other languages.
        domain: where it is from, e.g. ``travel``; no part of its text. Empty where none is named.
    """

    id: str
    fields: Fields
    label: str
    language: str
    parallel_id: str
    domain: str = ""

    @property
    def text(self) -> str:
        """All fields joined by newlines: what embedders read and what leakage checks compare."""
        return "\n".join(self.fields.values())


@dataclass(frozen=True, slots=True)
class Labels:
    """The answer space of an episode: what a learner knows beside the support set.

    Attributes:
        names: canonical label names in the episode's order; columns of every score matrix.
        words: the verbaliser of each name, as it is shown to a language model.
        template: how examples are put before a language model.

    Raises:
        IclError: a name stands twice, or two labels look the same as the template's target shows
            their words.
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    template: Template

    def __post_init__(self) -> None:
        if len(self.names) != len(self.words):
            raise IclError(f"{len(self.names)} labels have {len(self.words)} words; give one each.")
        if len(set(self.names)) != len(self.names):
            raise IclError(f"The labels {self.names} hold a duplicate; each may stand once.")
        same = clash(dict(zip(self.names, self.words, strict=True)), self.template.target)
        if same is not None:
            raise IclError(f"In prompts {same}; give each label a word of its own.")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the column of a label name; raises `ValueError` for a name that is not there."""
        return self.names.index(name)


@dataclass(frozen=True, slots=True)
class Task:
    """A task in one language: examples, label set and template. Immutable.

    Attributes:
        name: the task's name, shared by its languages.
        language: the language of `examples`.
        examples: any sequence; large sources give a lazy one.
        labels: canonical label names in a fixed order.
        words: label name -> word shown to a language model, in this language or the default one.
        kind: ``multiple_choice``: the labels name options, which are fields of each example.
        metrics: for generation, the names of the metrics that judge an answer.
        lone: label -> file and row, for labels with a single example.
    """

    name: str
    language: str
    examples: Sequence[Example]
    labels: tuple[str, ...]
    words: Mapping[str, str]
    template: Template
    kind: Kind = "classification"
    licence: str = ""
    source: str = ""
    metrics: tuple[str, ...] = ()
    lone: Mapping[str, str] = field(default_factory=dict)


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

"""What tasks are made of: `Example`, `Labels`, and how their names are compared."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from icl.errors import IclError
from icl.tasks.template import Fields, Template
from icl.tasks.words import clash

Value = TypeVar("Value")


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
        label: the label's canonical name, or the right answer as its kind of task writes it.
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

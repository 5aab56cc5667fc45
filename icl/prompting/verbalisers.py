"""Label words: the same labels under other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Literal

from icl.errors import IclError, did_you_mean
from icl.tasks.task import Labels, label_name

Words = Literal["task", "name", "lower", "upper", "title", "letter", "number"]

# of a label's name, the task's word, and its place among the names
_MADE: Mapping[str, Callable[[str, str, int], str]] = {
    "name": lambda name, word, place: name,
    "lower": lambda name, word, place: word.lower(),
    "upper": lambda name, word, place: word.upper(),
    "title": lambda name, word, place: word[:1].upper() + word[1:],
    "letter": lambda name, word, place: ascii_uppercase[place],
    "number": lambda name, word, place: str(place + 1),
}


def reworded(labels: Labels, words: Words | Mapping[str, str]) -> Labels:
    """Return labels with other words; names and their order stay.

    Args:
        labels: the episode's.
        words: ``task`` keeps the task's words, ``name`` takes the canonical names, ``lower``,
            ``upper`` and ``title`` change the task's words' case, ``letter`` and ``number`` count
            the labels in the order of their names; or a word by label name, where labels that are
            not named keep theirs.

    Raises:
        IclError: there are more labels than letters.
    """
    if words == "task":
        return labels
    pairs = zip(labels.names, labels.words, strict=True)
    if isinstance(words, Mapping):
        made = [words.get(label_name(name), word) for name, word in pairs]
    else:
        if words == "letter" and len(labels) > len(ascii_uppercase):
            raise IclError(f"There are {len(labels)} labels and 26 letters; set `words: number`.")
        places = {name: place for place, name in enumerate(sorted(labels.names))}
        made = [_MADE[words](name, word, places[name]) for name, word in pairs]
    return replace(labels, words=tuple(made))


def check_named(words: object, names: Sequence[str]) -> None:
    """Raise `IclError` for a word of a label that is none of all that there are.

    Args:
        words: a method's parameter `words`, or None where it has none.
        names: all labels.
    """
    known = [label_name(name) for name in names]
    for name in words if isinstance(words, Mapping) else ():
        if name not in known:
            raise IclError(
                f"`words` names {name!r}, which is no label here.{did_you_mean(name, known)}"
            )

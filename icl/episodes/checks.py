"""Checks of what a sampler is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from icl.errors import IclError, did_you_mean
from icl.tasks.loaded import Task
from icl.tasks.words import clash


def at_least(value: int, least: int, name: str) -> int:
    """Return the value; raises `IclError` when it is less than the least."""
    if value < least:
        raise IclError(f"The number of {name} is {value}; it must be {least} or more.")
    return value


def chosen(
    asked: Sequence[str] | None, known: Sequence[str], what: str, split: str
) -> tuple[str, ...]:
    """Return the names asked for, or all; raises `IclError` for one that the split lacks."""
    if asked is None:
        return tuple(known)
    for name in asked:
        if name not in known:
            raise IclError(
                f"The split {split!r} has no {what} {name!r}." + did_you_mean(name, known)
            )
    if not asked:
        raise IclError(f"The list of {what}s is empty; name one or leave the list out.")
    return tuple(dict.fromkeys(asked))


def check_words(task: Task, names: Sequence[str]) -> None:
    """Refuse a label without a word, and two labels that a model could not tell apart."""
    for name in names:
        if name not in task.words:
            raise IclError(
                f"The task {task.name!r} in {task.language!r} has no word for the label {name!r}; "
                "add one to its words."
            )
    same = clash({name: task.words[name] for name in names}, task.template.target)
    if same is not None:
        raise IclError(
            f"The task {task.name!r} in {task.language!r} says {same.shown!r} for both labels "
            f"{same.first!r} and {same.second!r}; give each its own word."
        )

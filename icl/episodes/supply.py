"""What a sampler is asked for, and whether there is enough of it.

`Supply`: the classes of a cell that always have enough for an episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl.episodes.cell import Cell
from icl.episodes.composition import Composition
from icl.errors import IclError, did_you_mean
from icl.tasks.loaded import Task
from icl.tasks.words import clash

_FEW = 3  # so many missing labels are named


@dataclass(frozen=True, slots=True)
class Supply:
    """A cell, its classes that always suffice, and how many of them (at least) take part."""

    cell: Cell
    eligible: tuple[int, ...]
    ways: int


def supply(
    cell: Cell,
    where: str,
    *,
    ways: int,
    shots: int,
    queries: int,
    pool: int,
    composition: Composition,
) -> Supply:
    """Find the classes that suffice whatever is drawn of the others.

    Args:
        cell: where the examples come from.
        where: what to call it in the message.
        ways, shots, queries, pool, composition: what is asked for; see `EpisodeSampler`.

    Raises:
        IclError: they are too few.
    """
    if not cell.query_task.kind.some_ways:
        ways = len(cell.strata)
    present = cell.present()
    if len(present) < ways:
        mend = f"lower ways to {len(present)} or leave it out" if present else "leave it out"
        absent = [name for place, name in enumerate(cell.strata) if name and place not in present]
        named = f" (none of {', '.join(map(repr, absent))})" if 0 < len(absent) <= _FEW else ""
        raise IclError(
            f"{where} has {len(present)} classes{named}, fewer than {ways} ways; {mend}."
        )
    reserve = math.ceil(pool / ways)
    least = composition.least_support(shots)
    each = math.ceil(queries / ways)
    most_ways = min(composition.max_ways or ways, len(present))
    most = shots * most_ways + queries + pool
    rooms = {label: cell.room(label, each, most) for label in present}
    eligible = tuple(
        c for c, room in rooms.items() if room[0] >= least + reserve and room[1] >= each
    )
    if len(eligible) < ways:
        raise IclError(
            f"{where} has {len(eligible)} classes with the {least + reserve} + {each} distinct "
            f"examples for {least} shots, {queries} queries and a pool of {pool}, fewer than "
            f"{ways} ways{_scarcest(cell, rooms)}; lower shots, queries, pool or ways, or add "
            "examples."
        )
    return Supply(cell, eligible, ways)


def _scarcest(cell: Cell, rooms: Mapping[int, tuple[int, int]]) -> str:
    """Name the class with the fewest examples, where there are classes."""
    place = min(rooms, key=lambda c: (min(cell.sizes(c)), c), default=0)
    label = cell.strata[place]
    if not label or not rooms:
        return ""
    where = cell.query_task.lone.get(label)
    return f" (the label {label!r} has {min(cell.sizes(place))}{f': {where}' if where else ''})"


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

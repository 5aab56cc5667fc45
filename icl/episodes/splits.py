"""Meta-splits that keep apart what they promise, and what still leaks between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icl.episodes.near import near_pairs
from icl.errors import IclError
from icl.tasks.loaded import Split, TaskFamily
from icl.tasks.task import Example, normalise

APART = ("class", "language", "task", "id")


def check_disjoint(family: TaskFamily, *, names_only: bool = False) -> None:
    """Check that the family's meta-splits share nothing of what `family.disjoint` promises.

    ``task`` and ``language`` compare the splits' lists, ``class`` the (task, label) pairs and
    ``id`` the (task, parallel id) pairs that they may draw.

    Args:
        family: the family.
        names_only: compare tasks and languages only, which loads nothing.

    Raises:
        IclError: two splits share one, or an unknown thing or split is promised.
    """
    held: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for one, other, apart in family.disjoint:
        if apart not in APART:
            raise IclError(
                f"Task family {family.name!r} promises splits disjoint by {apart!r}; "
                f"the kinds are {', '.join(APART)}."
            )
        if names_only and apart not in ("task", "language"):
            continue
        for name in (one, other):
            if (name, apart) not in held:
                held[name, apart] = _held(family, name, apart)
        shared = held[one, apart] & held[other, apart]
        if shared:
            first = ", ".join(min(shared))
            raise IclError(
                f"The splits {one!r} and {other!r} of the task family {family.name!r} are to "
                f"be disjoint by {apart} but share {len(shared)}, first {first!r}; leave it out "
                "of one of them."
            )


def claimed_elsewhere(
    family: TaskFamily, split: str, task: str
) -> Callable[[Example], tuple[str, str] | None] | None:
    """Return what tells which split may draw an example though it should not, or None for none.

    It is the part of `check_disjoint` that drawing from one split can afford: it loads no other
    examples than those that are drawn from.

    Returns:
        A function that gives the other split and what they promise to have apart.
    """
    kinds: dict[str, list[str]] = {}
    for one, other, apart in family.disjoint:
        if split in (one, other) and apart in ("class", "id"):
            kinds.setdefault(other if split == one else one, []).append(apart)
    others = {n: " and ".join(k) for n, k in kinds.items() if task in family.split(n).tasks}

    def claim(example: Example) -> tuple[str, str] | None:
        for name, apart in others.items():
            allows = family.splits[name].allows
            if allows is None or allows(task, example.label, example.parallel_id):
                return name, apart
        return None

    return claim if others else None


def _held(family: TaskFamily, split: str, apart: str) -> set[tuple[str, ...]]:
    meta = family.split(split)
    if apart in ("task", "language"):
        return {(name,) for name in (meta.tasks if apart == "task" else meta.languages)}
    return {
        (task, e.label if apart == "class" else e.parallel_id)
        for task, e in _examples(family, split)
    }


def _examples(family: TaskFamily, split: str) -> Iterator[tuple[str, Example]]:
    meta = family.split(split)
    for task, language in itertools.product(meta.tasks, meta.languages):
        for example in family.examples(split, task, language):
            yield task, example


@dataclass(frozen=True, slots=True)
class Leak:
    """An example of one split that a later split holds as well.

    Attributes:
        by: ``parallel`` (the same item, maybe in another language), ``text`` (the same
            normalised text) or ``near`` (a near-duplicate text).
        task: the task's name.
        split, example: the earlier split and its example: what is dropped.
        other_split, other: the later split and the example that it holds.
    """

    by: Literal["parallel", "text", "near"]
    task: str
    split: str
    example: Example
    other_split: str
    other: Example


def find_leaks(family: TaskFamily, near: float | None = None) -> list[Leak]:
    """Find what the meta-splits of a family share, task by task and across languages.

    Each example of an earlier split is reported once for each by, with one witness from a
    later split (in the order of `family.splits`, usually train, validation, test). Where a family
    promises some pairs of splits apart, the others may overlap by design (``test-seen-tasks`` is
    part of ``test``) and are not compared.

    Args:
        family: the family; all its tasks are loaded.
        near: also report texts that are at least this similar, see `icl.episodes.near`.
    """
    by_task: dict[str, list[tuple[int, Example]]] = {}
    for place, split in enumerate(family.splits):
        for task, example in _examples(family, split):
            by_task.setdefault(task, []).append((place, example))
    names = list(family.splits)
    promised = {frozenset((one, other)) for one, other, _ in family.disjoint}
    apart = [
        [
            later
            for later in range(place + 1, len(names))
            if not promised or frozenset((names[place], names[later])) in promised
        ]
        for place in range(len(names))
    ]
    found = []
    for task, rows in by_task.items():
        pairs = itertools.chain(
            _witnesses("parallel", rows, apart, lambda e: e.parallel_id),
            _witnesses("text", rows, apart, lambda e: normalise(e.text)),
            () if near is None else _near(rows, apart, near),
        )
        for by, (place, example), (later, other) in pairs:
            found.append(Leak(by, task, names[place], example, names[later], other))
    return found


_Row = tuple[int, Example]
_By = Literal["parallel", "text", "near"]


_Apart = Sequence[Sequence[int]]  # for each split the later ones that it is to be apart from


def _witnesses(
    by: _By, rows: Sequence[_Row], apart: _Apart, key: Callable[[Example], str]
) -> Iterator[tuple[_By, _Row, _Row]]:
    held: dict[tuple[int, str], _Row] = {(row[0], key(row[1])): row for row in rows}
    for row in rows:
        own = key(row[1])
        for later in reversed(apart[row[0]]):
            if (later, own) in held:
                yield by, row, held[later, own]
                break


def _near(
    rows: Sequence[_Row], apart: _Apart, threshold: float
) -> Iterator[tuple[_By, _Row, _Row]]:
    seen: set[int] = set()
    for first, second in near_pairs([e.text for _, e in rows], threshold).tolist():
        earlier, later = sorted((first, second), key=lambda place: rows[place][0])
        copies = normalise(rows[first][1].text) == normalise(rows[second][1].text)
        if rows[later][0] in apart[rows[earlier][0]] and not copies and earlier not in seen:
            seen.add(earlier)
            yield "near", rows[earlier], rows[later]


def drop_leaks(family: TaskFamily, leaks: Sequence[Leak]) -> TaskFamily:
    """Return the family without the leaked items: the earlier split gives them up.

    An item is given up in all its languages, since a split decides by parallel id.
    """
    dropped: dict[str, set[tuple[str, str]]] = {}
    for leak in leaks:
        dropped.setdefault(leak.split, set()).add((leak.task, leak.example.parallel_id))
    splits = {
        name: _without(split, frozenset(dropped[name])) if name in dropped else split
        for name, split in family.splits.items()
    }
    return replace(family, splits=splits, loaded_as=None)


def without_leaks(family: TaskFamily, near: float | None = None) -> TaskFamily:
    """Drop the texts, and with `near` the near-duplicates, that a later split holds as well.

    Items that splits share in other languages stay: a family split by language has them by
    design, and one that promises disjoint ids is refused for them.
    """
    return drop_leaks(family, [k for k in find_leaks(family, near) if k.by != "parallel"])


def _without(split: Split, items: frozenset[tuple[str, str]]) -> Split:
    before = split.allows

    def allows(task: str, label: str, parallel_id: str) -> bool:
        return (task, parallel_id) not in items and (
            before is None or before(task, label, parallel_id)
        )

    return replace(split, allows=allows)

"""Runs put side by side, where they are on the same episodes, and why not where they are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icl.errors import IclError
from icl.runs.finished import FinishedRun
from icl.runs.record import EpisodeRecord
from icl.runs.used_models import UsedModel, joined

_DECIDING = ("seed", "tasks", "episodes")  # the fields of a configuration that decide the episodes


@dataclass(frozen=True, slots=True)
class Joined:
    """Several runs as if they were one; see `FinishedRun` for the attributes."""

    records: tuple[EpisodeRecord, ...]
    meta_training: Mapping[str, Mapping[str, float]]
    models: Mapping[str, UsedModel] = field(default_factory=dict)


def together(runs: Sequence[FinishedRun]) -> Joined:
    """Put runs on the same episodes side by side.

    A learner keeps its name where no other run has it; else its run's name stands before it.

    Raises:
        IclError: fewer than two runs, two folders of one name, or runs on different episodes; says
            in what they differ.
    """
    if len(runs) < 2:
        raise IclError("Give two runs or more to compare.")
    names = _names(runs)
    for name, run in zip(names[1:], runs[1:], strict=True):
        if set(run.fingerprints) != set(runs[0].fingerprints):
            raise IclError(_why(names[0], runs[0], name, run))
    learners = [dict.fromkeys(record.learner for record in run.records) for run in runs]
    shared = Counter(learner for names_of_one in learners for learner in names_of_one)
    records: list[EpisodeRecord] = []
    meta_training: dict[str, Mapping[str, float]] = {}
    models: dict[str, UsedModel] = {}
    used = joined([(name, run.models) for name, run in zip(names, runs, strict=True)])
    for name, run, own, on in zip(names, runs, learners, used, strict=True):
        called = {n: f"{name}: {n}" if shared[n] > 1 else n for n in own}
        records += [replace(record, learner=called[record.learner]) for record in run.records]
        meta_training |= {called[n]: cost for n, cost in run.meta_training.items() if n in called}
        models |= {called[n]: model for n, model in on.items() if n in called}
    return Joined(tuple(records), meta_training, models)


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """Name runs by their folders, and by the folders above where that is not enough."""
    paths = [run.folder.absolute() for run in runs]
    if len(set(paths)) < len(paths):
        raise IclError("A run is named twice; give each folder once.")
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _why(first: str, a: FinishedRun, second: str, b: FinishedRun) -> str:
    ours, theirs = set(a.fingerprints), set(b.fingerprints)
    shared = len(ours & theirs)
    said = (
        f"{first} and {second} cannot be compared: they are on different episodes ({len(ours)} and"
        f" {len(theirs)}, {shared} of them the same)"
    )
    differing = list(_differences(a.config, b.config))
    if differing:
        return f"{said}; their configurations differ in {', '.join(differing[:4])}."
    if ours < theirs or theirs < ours:
        less = first if ours < theirs else second
        return f"{said}; {less} was run with a lower --limit, run it again without."
    return f"{said}; their configurations agree, so data or templates have changed between them."


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Name the fields that decide the episodes and differ, with both values where they are short.

    Where the data lie is left out: the same data may lie in two places.
    """
    found = []
    for part in _DECIDING:
        ours, theirs = a.get(part), b.get(part)
        if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
            ours, theirs, prefix = {part: ours}, {part: theirs}, ""
        else:
            prefix = f"{part}."
        for name in dict.fromkeys((*ours, *theirs)):
            x, y = ours.get(name), theirs.get(name)
            if x != y and f"{prefix}{name}" != "tasks.data":
                values = f" ({x} and {y})" if len(f"{x}{y}") < 60 else ""
                found.append(f"`{prefix}{name}`{values}")
    return found

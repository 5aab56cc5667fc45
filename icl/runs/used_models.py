"""Which model each learner of a run was on, and what reports call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A model of a run.

    Attributes:
        label: what reports call it: its name under ``models``, or its own where there is one.
        name: its own name: a Hub id, or a directory's.
        identity: see `icl.models.backbone.Backbone.identity`; None in older folders.
    """

    label: str
    name: str
    identity: str | None = None


def used_models(
    rows: Iterable[Mapping[str, Any]], config: Mapping[str, Any]
) -> dict[str, UsedModel]:
    """Return the models of a roster's learners, by learner; those that need none are left out.

    Args:
        rows: of the roster, see `icl.runs.roster.read_roster`; older ones do not name models.
        config: of the run, which then names the one model of all.
    """
    found = {}
    for row in rows:
        told = row["on"] if "on" in row else _only(config)
        if told is not None:
            found[row["name"]] = UsedModel(told["label"], told["name"], row["model"])
    return found


def _only(config: Mapping[str, Any]) -> dict[str, str] | None:
    """Return how an older folder's one model is called, of a directory its own name."""
    model = config.get("model")
    name = str(model.get("name", "")) if isinstance(model, Mapping) else ""
    if name.startswith((".", "/", "~")):
        name = PurePath(name).name
    return {"label": name, "name": name} if name else None


def joined(runs: Sequence[tuple[str, Mapping[str, UsedModel]]]) -> list[dict[str, UsedModel]]:
    """Let runs that stand side by side call their models so that each has a label of its own.

    A model that several runs have keeps the label of the first; two models that share a label get
    their run's name before it.

    Args:
        runs: each run's name and its models by learner.
    """
    first: dict[str, UsedModel] = {}
    for _, models in runs:
        for model in models.values():
            first.setdefault(_who(model), model)
    shared = Counter(model.label for model in first.values())
    labels: dict[str, str] = {}
    for run, models in runs:
        for model in models.values():
            own = first[_who(model)].label
            labels.setdefault(_who(model), f"{run}: {own}" if shared[own] > 1 else own)
    return [{n: replace(m, label=labels[_who(m)]) for n, m in models.items()} for _, models in runs]


def _who(model: UsedModel) -> str:
    return model.identity or f"named {model.name}"

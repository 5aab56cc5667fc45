"""Reading a run's folder: its records in the order of its learners and episodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.runs.episode_file import EpisodeFile
from icl.runs.folder import EPISODES, RunFolder
from icl.runs.record import EpisodeRecord
from icl.tools.values import is_amount, is_text

_SPENT = {"seconds": "seconds", "tokens": "computed_tokens", "steps": "steps"}
_TRAINING_FOLDER = re.compile(r"meta/[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run's folder holds; the run may still be under way.

    Attributes:
        folder: where it lies.
        records: of its learners on its episodes.
        fingerprints: of its episodes, in order.
        meta_training: by learner, for those that were meta-trained: seconds, tokens, steps.
        config: the experiment.
        logs: by learner, the log of its meta-training.
    """

    folder: Path
    records: tuple[EpisodeRecord, ...]
    fingerprints: tuple[str, ...]
    meta_training: Mapping[str, Mapping[str, float]]
    config: Mapping[str, Any]
    logs: Mapping[str, Path] = field(default_factory=dict)


def read_run(folder: Path) -> FinishedRun:
    """Read a run's folder.

    Raises:
        IclError: it is no run's folder, is damaged, or holds no records of its learners yet.
    """
    run = RunFolder(folder)
    learners = roster(run)
    fingerprints = list(whole_episodes(run).fingerprints())
    keys = {row["name"]: row["key"] for row in learners if row["key"]}
    records = tuple(run.records(keys, fingerprints))
    if not records:
        raise IclError(f"{folder} holds no records yet; let `icl run` go on.")
    return FinishedRun(
        folder=folder,
        records=records,
        fingerprints=tuple(fingerprints),
        meta_training=meta_training(learners),
        config=run.read_yaml("config.yaml"),
        logs=training_logs(folder, learners),
    )


def roster(run: RunFolder) -> list[dict[str, Any]]:
    """Return a row for each learner of a run: its name, its key, what its training took.

    A folder may come from anywhere: what its roster says is checked before it is believed.

    Raises:
        IclError: it is no run's folder, or its roster is damaged.
    """
    found = run.read_json("run.json")
    if found is None:
        raise IclError(
            f"{run.path} is not a run's folder: it has no run.json; give the folder that"
            " `icl run` named."
        )
    learners = found.get("learners") if isinstance(found, dict) else None
    if not isinstance(learners, list) or not all(map(_is_row, learners)):
        raise IclError(f"{run.path / 'run.json'} is damaged; remove it and run again.")
    return learners


def model_of(run: RunFolder) -> str | None:
    """Return the `Backbone.identity` that a run's roster is of; None in older folders."""
    found = run.read_json("run.json")
    identity = found.get("model") if isinstance(found, dict) else None
    return identity if isinstance(identity, str) else None


def whole_episodes(run: RunFolder) -> EpisodeFile:
    """Return the episodes that a run's roster is of.

    Raises:
        IclError: there are none, or the file is another than the roster says.
    """
    found, episodes = run.read_json("run.json"), run.episodes()
    said = found.get("episodes") if isinstance(found, dict) else None
    if said not in {None, episodes.digest}:  # older folders say nothing
        raise IclError(
            f"{run.path / EPISODES} is damaged, or of a run that has not begun; let `icl run` go"
            " on."
        )
    return episodes


def _is_row(row: Any) -> bool:
    """Tell whether a row of a roster has what every row has, and leads nowhere else."""
    return (
        isinstance(row, dict)
        and is_text(row.get("name"))
        and isinstance(row.get("key", 0), str | None)
        and _is_training(row.get("training", 0))
        and _TRAINING_FOLDER.fullmatch(str(row.get("folder", "meta/" + 16 * "0"))) is not None
    )


def _is_training(spent: Any) -> bool:
    """Tell whether this is what a learner's meta-training took, or nothing."""
    return spent is None or (
        isinstance(spent, dict)
        and all(is_amount(spent.get(name)) for name in _SPENT.values())
        and is_text(spent.get("digest"))
    )


def training_logs(folder: Path, learners: Iterable[Mapping[str, Any]]) -> dict[str, Path]:
    """Return where the logs of those learners of a roster lie that were meta-trained."""
    return {
        row["name"]: folder / row["folder"] / "log.jsonl" for row in learners if row.get("folder")
    }


def meta_training(learners: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the seconds, tokens and steps of those learners of a roster that were meta-trained."""
    return {
        row["name"]: {name: row["training"][field] for name, field in _SPENT.items()}
        for row in learners
        if row.get("training")
    }

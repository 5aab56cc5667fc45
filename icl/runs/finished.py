"""Reading a run's folder: its records in the order of its learners and episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.runs.folder import EPISODES, RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.roster import Row, episodes_of, meta_training, read_roster, training_logs
from icl.runs.trials import JOURNAL, Tuning, read_tuning, with_values
from icl.runs.used_models import UsedModel, used_models


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
        models: by learner, the model that it was on; those that need none are left out.
        tuning: how values were chosen; None where all are as configured.
    """

    folder: Path
    records: tuple[EpisodeRecord, ...]
    fingerprints: tuple[str, ...]
    meta_training: Mapping[str, Mapping[str, float]]
    config: Mapping[str, Any]
    logs: Mapping[str, Path] = field(default_factory=dict)
    models: Mapping[str, UsedModel] = field(default_factory=dict)
    tuning: Tuning | None = None

    @property
    def learners(self) -> dict[str, Mapping[str, Any]]:
        """The learners' fields as they ran: as configured, but for what tuning has chosen."""
        chosen = {} if self.tuning is None else self.tuning.learners
        return {
            name: with_values(own, chosen[name].best.values) if name in chosen else own
            for name, own in (self.config.get("learners") or {}).items()
        }


def read_run(run: RunFolder) -> FinishedRun:
    """Read what a run's folder holds.

    Raises:
        IclError: it is no run's folder, is damaged, or holds no records of its learners yet.
    """
    rows = read_roster(run)
    episodes = run.episodes()
    if episodes_of(run) not in {None, episodes.digest}:
        raise IclError(
            f"{run.path / EPISODES} is damaged, or of a run that has not begun; let `icl run` go"
            " on."
        )
    fingerprints = list(episodes.fingerprints())
    keys = {row["name"]: row["key"] for row in rows if row["key"]}
    config = run.read_yaml("config.yaml")
    records = tuple(run.records(keys, fingerprints))
    if not records:
        raise IclError(f"{run.path} holds no records yet; let `icl run` go on.")
    return FinishedRun(
        folder=run.path,
        records=records,
        fingerprints=tuple(fingerprints),
        meta_training=meta_training(rows),
        config=config,
        logs=training_logs(run.path, rows),
        models=used_models(rows, config),
        tuning=_tuning(run, rows),
    )


def _tuning(run: RunFolder, rows: Sequence[Row]) -> Tuning | None:
    """Return how the values of a roster's learners were chosen; None where none were.

    Raises:
        IclError: what says so is damaged, or of a run that has not begun.
    """
    if not any(row.get("tuned") for row in rows):
        return None
    tuning = read_tuning(run)
    for row in rows:
        if row["name"] not in tuning.learners or tuning.row(row["name"]) != row.get("tuned"):
            raise IclError(
                f"{run.path / JOURNAL} is not what {row['name']!r} in run.json was chosen by; let"
                " `icl run` go on."
            )
    return tuning

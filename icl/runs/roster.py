"""The roster of a run, ``run.json``: its learners with their keys, models and meta-trainings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from icl.errors import IclError, NewerSchemaError
from icl.runs.entrants import Entrant, by_model, identities
from icl.runs.folder import FINISHED, SCHEMA_VERSION, RunFolder
from icl.runs.keys import learner_key, training_key
from icl.tools.values import is_amount, is_text
from icl.training.outcome import TrainingSummary

_FILE = "run.json"
_SPENT = {"seconds": "seconds", "tokens": "computed_tokens", "steps": "steps"}
_TRAINING_FOLDER = re.compile(r"meta/[0-9a-f]{16}")

Row = dict[str, Any]


class Roster:
    """Who takes part in a run, as it is written into the run's folder.

    Attributes:
        rows: by the learner's name: its name and method, its model's identity, what reports call
            that model (None for a method that looks at none), what its training
            took (None until it is done, or where there is none), its key (None until its training
            has decided it), the folder of its checkpoints, and the values chosen by tuning.
    """

    def __init__(self, folder: RunFolder, entrants: Sequence[Entrant]) -> None:
        self._folder = folder
        self._entrants = entrants
        self.rows: dict[str, Row] = {}

    def enter(self) -> None:
        """Put every entrant on the roster, with its key where that is known before training.

        A model is loaded unless its files tell that the folder's roster knows it already.
        """
        told = identities(by_model(self._entrants), self._known_models())
        for entrant in self._entrants:
            self._enter(entrant, told[entrant.model])

    def exchanged(self, names: Collection[str]) -> bool:
        """Load the models of some learners, in turn; tell whether one is not as its row says."""
        asked = [entrant for entrant in self._entrants if entrant.name in names]
        loaded = identities(by_model(asked))
        return any(loaded[e.model] != self.rows[e.name]["model"] for e in asked)

    def settle(self, entrant: Entrant, summary: Mapping[str, Any]) -> None:
        """Give a trained meta-learner the key that its training has decided."""
        row = self.rows[entrant.name]
        row["training"] = dict(summary)
        params = entrant.params.identity()
        row["key"] = learner_key(entrant.method, params, row["model"], summary["digest"])

    def write(self, episodes: str) -> None:
        """Write the roster, with the hash of the episodes that it goes with."""
        rows = list(self.rows.values())
        self._folder.write_json(
            _FILE, {"schema_version": SCHEMA_VERSION, "episodes": episodes, "learners": rows}
        )

    def _enter(self, entrant: Entrant, identity: str) -> None:
        row: Row = {"name": entrant.name, "method": entrant.method, "model": identity}
        row["on"] = _on(entrant)
        row["training"] = None
        if entrant.tuned is not None:
            row["tuned"] = dict(entrant.tuned)
        self.rows[entrant.name] = row
        params = entrant.params.identity()
        if entrant.made is not None:  # nothing tells what it has become since: it is judged anew
            row["key"] = f"own/{uuid4().hex[:16]}"
        elif entrant.training is None or entrant.sampler is None:
            row["key"] = learner_key(entrant.method, params, identity)
        else:
            row["folder"] = "meta/" + training_key(
                entrant.method, params, entrant.training, identity, entrant.sampler
            )
            row["key"] = None
            finished = self._folder.read_derived(f"{row['folder']}/{FINISHED}")
            summary = TrainingSummary.of(finished)
            if summary is not None:  # else the last checkpoint gives it again
                self.settle(entrant, asdict(summary))

    def _known_models(self) -> set[str]:
        """Return the identities of the folder's roster; a damaged one is written anew."""
        try:
            return {row["model"] for row in read_roster(self._folder) if row["model"]}
        except NewerSchemaError:
            raise
        except IclError:
            return set()


def _on(entrant: Entrant) -> dict[str, str] | None:
    """Return what reports call an entrant's model, and its name; None where it needs none."""
    model = entrant.model
    return {"label": model.label, "name": model.name} if entrant.needs_model else None


def read_roster(run: RunFolder) -> list[Row]:
    """Return a row for each learner of a run, see `Roster`; of old folders some lack the model.

    A folder may come from anywhere: what its roster says is checked before it is believed.

    Raises:
        IclError: it is no run's folder, or its roster is damaged.
    """
    found = run.read_json(_FILE)
    if found is None:
        raise IclError(
            f"{run.path} is not a run's folder: it has no run.json; give the folder that"
            " `icl run` named."
        )
    learners = found.get("learners") if isinstance(found, dict) else None
    if not isinstance(learners, list) or not all(map(_is_row, learners)):
        raise IclError(f"{run.path / _FILE} is damaged; remove it and run again.")
    shared = found.get("model")  # where older versions named the one model of all learners
    return [{"model": shared if is_text(shared) else None, **row} for row in learners]


def episodes_of(run: RunFolder) -> str | None:
    """Return the hash of the episodes that a run's roster is of; None in older folders."""
    found = run.read_json(_FILE)
    said = found.get("episodes") if isinstance(found, dict) else None
    return None if said is None else str(said)


def _is_row(row: Any) -> bool:
    """Tell whether a row of a roster has what every row has, and leads nowhere else."""
    return (
        isinstance(row, dict)
        and is_text(row.get("name"))
        and isinstance(row.get("model"), str | None)
        and isinstance(row.get("key", 0), str | None)
        and _is_model(row.get("on"))
        and _is_training(row.get("training", 0))
        and _is_tuned(row.get("tuned"))
        and _TRAINING_FOLDER.fullmatch(str(row.get("folder", "meta/" + 16 * "0"))) is not None
    )


def _is_model(told: Any) -> bool:
    """Tell whether this is what a learner's model is called, or nothing."""
    return told is None or (
        isinstance(told, dict) and is_text(told.get("label")) and is_text(told.get("name"))
    )


def _is_training(spent: Any) -> bool:
    """Tell whether this is what a learner's meta-training took, or nothing."""
    return spent is None or (
        isinstance(spent, dict)
        and all(is_amount(spent.get(name)) for name in _SPENT.values())
        and is_text(spent.get("digest"))
    )


def _is_tuned(told: Any) -> bool:
    """Tell whether this is what was chosen for a learner, or nothing."""
    return told is None or (
        isinstance(told, dict) and isinstance(told.get("values"), dict) and is_text(told.get("key"))
    )


def training_logs(folder: Path, rows: Iterable[Row]) -> dict[str, Path]:
    """Return where the logs of those learners of a roster lie that were meta-trained."""
    return {row["name"]: folder / row["folder"] / "log.jsonl" for row in rows if row.get("folder")}


def meta_training(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Return the seconds, tokens and steps of those learners of a roster that were meta-trained."""
    return {
        row["name"]: {name: row["training"][field] for name, field in _SPENT.items()}
        for row in rows
        if row.get("training")
    }

"""``tuning.json``: the trials by which each learner's values were chosen, with what they took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from icl.errors import IclError
from icl.runs.folder import SCHEMA_VERSION, RunFolder

TRIALS = "tuning"  # the folder of the trials' own run, within the run's
JOURNAL = "tuning.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """A learner with some values, on the validation episodes.

    Attributes:
        values: by parameter, ``training.<field>`` for those of meta-training.
        score: mean over validation episodes of the first metric, from 0 to 1.
        seconds, tokens: meta-training and all episodes together, as records count them.
        key: its key in the records of the trials' run.
    """

    values: Mapping[str, Any]
    score: float
    seconds: float
    tokens: float
    key: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """The trials of one learner.

    Attributes:
        search: what was searched: values by parameter.
        trials: the first with the configured values.
        chosen: the place of the best, of equals the first.
    """

    search: Mapping[str, tuple[Any, ...]]
    trials: tuple[Trial, ...]
    chosen: int

    @property
    def best(self) -> Trial:
        """The trial that was chosen."""
        return self.trials[self.chosen]

    @property
    def changes(self) -> Mapping[str, Any]:
        """The chosen values that differ from the configured ones."""
        given = self.trials[0].values
        return {name: v for name, v in self.best.values.items() if v != given[name]}


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the learners' values were chosen.

    Attributes:
        trials: how many each learner was to have.
        split: of the validation episodes.
        episodes: how many these were.
        fingerprint: the hash of their file.
        metric: what scores are means of.
        learners: by name.
    """

    trials: int
    split: str
    episodes: int
    fingerprint: str
    metric: str
    learners: Mapping[str, Tuned]

    def row(self, name: str) -> dict[str, Any]:
        """Return what a learner's row of the roster says: its trial, the values, and their key.

        The key hashes all that decided the choice: trials by their own keys, and the episodes.
        """
        own = self.learners[name]
        key = _check({"episodes": self.fingerprint, "trials": [t.key for t in own.trials]})
        return {"trial": own.chosen, "values": dict(own.best.values), "key": key}

    def write(self, folder: RunFolder) -> None:
        """Write it into a run's folder, its hash within; raises `IclError` where that fails."""
        told = {"schema_version": SCHEMA_VERSION, **json.loads(json.dumps(asdict(self)))}
        folder.write_json(JOURNAL, {**told, "check": _check(told)})


def read_tuning(folder: RunFolder) -> Tuning:
    """Read what `Tuning.write` wrote.

    Raises:
        IclError: it is missing, damaged, or a newer icl has written it.
    """
    told = folder.read_json(JOURNAL)
    try:
        if _check({k: v for k, v in told.items() if k != "check"}) != told["check"]:
            raise ValueError("its checksum does not fit")
        learners = {name: _tuned(own) for name, own in told["learners"].items()}
        fields = ("trials", "split", "episodes", "fingerprint", "metric")
        return Tuning(**{name: told[name] for name in fields}, learners=learners)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IclError(
            f"{folder.path / JOURNAL} is missing, or was changed after it was written; let"
            " `icl run` go on, which writes it again from the trials' records."
        ) from error


def _tuned(told: Mapping[str, Any]) -> Tuned:
    search = {name: tuple(values) for name, values in told["search"].items()}
    return Tuned(search, tuple(Trial(**own) for own in told["trials"]), told["chosen"])


def _check(told: Mapping[str, Any]) -> str:
    """Hash JSON values: 16 hexadecimal digits."""
    text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_values(learner: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's fields, as a configuration gives them, with values by parameter.

    >>> with_values({"method": "maml", "training": {"steps": 5}}, {"training.steps": 9, "rank": 4})
    {'method': 'maml', 'training': {'steps': 9}, 'rank': 4}
    """
    found = dict(learner)
    for name, value in values.items():
        part, _, field = name.partition(".")
        found[part] = {**(found.get(part) or {}), field: value} if field else value
    return found

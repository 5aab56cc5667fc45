"""Trackers by name, through Accelerate: TensorBoard, W&B, trackio, MLflow and their like."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean


class Trackers:
    """Tells trackers the figures of a run: every step of a meta-training, and accuracies.

    Those that take a folder write under ``trackers/`` in the run's folder, the others where they
    always do. One that fails on the way is named once and told nothing more: the run's own files
    have all that it would have been told. At the end of a ``with`` block, also where the run was
    stopped, trackers write what they hold.

    Args:
        names: of Accelerate's trackers.
        folder: the run's.
        run: the run's name.
        config: the experiment, complete with defaults, as plain values.

    Raises:
        IclError: no such tracker, its package is not installed, or it cannot be started.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, run: str, config: Mapping[str, Any]
    ) -> None:
        self._trackers: list[_Tracker] = []
        for name in dict.fromkeys(names):
            kind = _kind(name)
            try:
                self._trackers.append(_Tracker(kind, folder, run, config))
            except Exception as error:
                raise IclError(f"The tracker {name!r} cannot be started: {_why(error)}.") from error

    def __enter__(self) -> Trackers:
        """Nothing is to be done: the trackers have started."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the trackers write what they hold."""
        self._each(_Tracker.finish)

    def line(self, learner: str, values: Mapping[str, Any]) -> None:
        """Pass on a line of a meta-training's log."""
        event = f"/{values['event']}" if "event" in values else ""
        numbers = {
            f"{name}{event}": value
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float)
        }
        self._each(lambda tracker: tracker.log(learner, numbers, int(values["step"])))

    def accuracies(self, means: Mapping[str, float]) -> None:
        """Pass on each learner's mean accuracy."""
        for learner, mean in means.items():
            told = partial(_Tracker.log, learner=learner, numbers={"accuracy": mean}, step=None)
            self._each(told)

    def _each(self, work: Callable[[_Tracker], None]) -> None:
        """Do something with each tracker; one that fails is named and left out from then on."""
        for tracker in list(self._trackers):
            try:
                work(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                warnings.warn(
                    f"The tracker {tracker.name!r} failed ({_why(error)}) and is told no more; the"
                    " run's own folder has everything.",
                    stacklevel=3,
                )


class _Tracker:
    """One of Accelerate's trackers, with what is its own in how it takes steps and names."""

    def __init__(self, kind: Any, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        self.name = str(kind.name)
        self._learners: set[str] = set()
        place = (folder / "trackers",) if kind.requires_logging_directory else ()
        self._tracker = kind(run, *place)
        self._tracker.start()
        flat = {self._allowed(name): value for name, value in _flat(config).items()}
        self._tracker.store_init_configuration(flat)

    def log(self, learner: str, numbers: Mapping[str, float], step: int | None) -> None:
        """Pass on figures of a learner at a step of its meta-training, or after all."""
        values = {self._allowed(f"{learner}/{name}"): value for name, value in numbers.items()}
        if self.name == "wandb" and step is not None:
            # A run of W&B has one step, which never goes back; each learner's begin at 1.
            if learner not in self._learners:
                self._learners.add(learner)
                self._tracker.tracker.define_metric(f"{learner}/*", step_metric=f"{learner}/step")
            self._tracker.log({**values, f"{learner}/step": step})
        else:
            self._tracker.log(values, step=None if self.name == "wandb" else step or 0)

    def finish(self) -> None:
        """Write what is held."""
        self._tracker.finish()

    def _allowed(self, name: str) -> str:
        """Return a name as the tracker takes it: MLflow refuses that of ``maml++``."""
        return re.sub(r"[^\w./: -]", "_", name) if self.name == "mlflow" else name


def _kind(name: str) -> Any:
    """Return the class of a tracker; raises `IclError` where there is none, or no package."""
    from accelerate import PartialState  # type: ignore[import-untyped]
    from accelerate.tracking import (  # type: ignore[import-untyped]
        LOGGER_TYPE_TO_CLASS,
        get_available_trackers,
    )

    PartialState()  # trackers ask it whether this is the main process
    if name not in LOGGER_TYPE_TO_CLASS:
        raise IclError(f"No tracker {name!r}." + did_you_mean(name, LOGGER_TYPE_TO_CLASS))
    if name not in {str(available) for available in get_available_trackers()}:
        raise IclError(
            f"The tracker {name!r} is not installed; pip install {name}"
            + (" or 'icl[track]'." if name == "tensorboard" else ".")
        )
    return LOGGER_TYPE_TO_CLASS[name]


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return a configuration as one level of dotted names; what is no single value as JSON.

    >>> _flat({"model": {"name": "x"}, "shots": [1, 4]})
    {'model.name': 'x', 'shots': '[1, 4]'}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            plain = value is None or isinstance(value, str | int | float)
            found[f"{before}{name}"] = value if plain else json.dumps(value)
    return found


def _why(error: Exception) -> str:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    return reason or type(error).__name__

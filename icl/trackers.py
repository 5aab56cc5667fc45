"""Trackers by name, through Accelerate: TensorBoard, W&B, trackio, MLflow and their like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean


class Trackers:
    """Tells trackers the figures of a run: every step of a meta-training, and accuracies.

    Those that write files put them under ``trackers/`` in the run's folder.

    Args:
        names: of Accelerate's trackers.
        folder: the run's.
        run: the run's name.

    Raises:
        IclError: no such tracker, its package is not installed, or it cannot be started.
    """

    def __init__(self, names: Sequence[str], folder: Path, run: str) -> None:
        from accelerate import PartialState  # type: ignore[import-untyped]
        from accelerate.tracking import (  # type: ignore[import-untyped]
            LOGGER_TYPE_TO_CLASS,
            get_available_trackers,
        )

        PartialState()  # trackers ask it whether this is the main process
        available = {str(name) for name in get_available_trackers()}
        self._trackers = []
        for name in dict.fromkeys(names):
            if name not in LOGGER_TYPE_TO_CLASS:
                raise IclError(f"No tracker {name!r}." + did_you_mean(name, LOGGER_TYPE_TO_CLASS))
            if name not in available:
                raise IclError(
                    f"The tracker {name!r} is not installed; pip install {name}"
                    + (" or 'icl[track]'." if name == "tensorboard" else ".")
                )
            kind = LOGGER_TYPE_TO_CLASS[name]
            try:
                if kind.requires_logging_directory:
                    made = kind(run, folder / "trackers")
                else:
                    made = kind(run)
                made.start()
            except Exception as error:
                reason = " ".join(str(error).split())[:200].rstrip(".")
                raise IclError(f"The tracker {name!r} cannot be started: {reason}.") from error
            self._trackers.append(made)

    def line(self, learner: str, values: Mapping[str, Any]) -> None:
        """Pass on a line of a meta-training's log."""
        numbers = {
            f"{learner}/{name}": value
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float)
        }
        if "event" in values:
            numbers = {f"{name}/{values['event']}": value for name, value in numbers.items()}
        self._log(numbers, int(values["step"]))

    def accuracies(self, means: Mapping[str, float]) -> None:
        """Pass on each learner's mean accuracy."""
        self._log({f"{name}/accuracy": value for name, value in means.items()}, 0)

    def finish(self) -> None:
        """Let the trackers write what they hold."""
        for tracker in self._trackers:
            tracker.finish()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)

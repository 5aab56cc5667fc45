"""What happened at each step of a meta-training, as lines of JSON that survive a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.tools.values import MOST

NAME = "log.jsonl"


class TrainingLog:
    """``log.jsonl`` in the folder of a meta-training, one object a line.

    A step has ``step`` (from 1), ``loss``, ``gradient_norm`` before clipping, ``learning_rate``,
    ``seconds``, and the learner's metrics: for gradient learners ``support_loss_k`` before inner
    step k, ``query_loss`` after the inner loop, and every fifth step ``support_loss_after`` and
    ``query_loss_before``. A return to a checkpoint has ``event: diverged``, the step ``at`` which
    it was seen, and the ``episodes`` at fault. A look at the validation episodes has ``event:
    validated`` and their ``loss``, see `query_loss`.
    """

    def __init__(
        self,
        folder: Path,
        track: Callable[[Mapping[str, Any]], None] | None = None,
        *,
        writes: bool = True,
    ) -> None:
        """Name the folder, who else is told each line, and whether this process writes at all."""
        self.path = folder / NAME
        self._track = track
        self._writes = writes

    def add(self, **values: Any) -> None:
        """Append one line; raises `IclError` where the file cannot be written."""
        if not self._writes:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error
        if self._track is not None:
            self._track(values)

    def cut(self, step: int) -> None:
        """Forget steps after `step`, which will be taken again, and a last line that is torn."""
        if not (self._writes and self.path.exists()):
            return
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        draft = self.path.with_suffix(".tmp")
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> IclError:
        return IclError(
            f"The training log {self.path} cannot be written: {error.strerror}; free some"
            " space or choose another run folder."
        )


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a training's log; none where there is no log.

    Raises:
        IclError: it is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise IclError(f"Cannot read {path} ({error.strerror}); mend that or move it.") from error
    return [line for line in map(_parsed, content.split(b"\n")) if line]


def _parsed(line: bytes) -> dict[str, Any]:
    """Return what a line holds; nothing where it is torn or damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict) and isinstance(found.get("step"), int)
    return found if whole and all(map(_fits, found, found.values())) else {}


def _fits(name: str, value: Any) -> bool:
    if name in {"event", "episodes"}:
        return isinstance(value, list if name == "episodes" else str)
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < MOST)

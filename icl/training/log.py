"""What happened at each step of a meta-training, as lines of JSON that survive a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl.errors import IclError

NAME = "log.jsonl"


class TrainingLog:
    """``log.jsonl`` in the folder of a meta-training, one object a line.

    A step has ``step`` (from 1), ``loss``, ``gradient_norm`` before clipping, ``learning_rate``,
    ``seconds``, and the learner's metrics: for gradient learners ``support_loss_k`` before inner
    step k, ``query_loss`` after the inner loop, and every fifth step ``support_loss_after`` and
    ``query_loss_before``. A return to a checkpoint has ``event: diverged``, the step ``at`` which
    it was seen, and the ``episodes`` at fault.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def add(self, **values: Any) -> None:
        """Append one line; raises `IclError` where the file cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise IclError(
                f"The training log {self.path} cannot be written: {error.strerror}; free some"
                " space or choose another run folder."
            ) from error

    def cut(self, step: int) -> None:
        """Forget steps after `step`, which will be taken again, and a last line that is torn."""
        if self.path.exists():
            kept = [line for line in self.read() if line["step"] <= step]
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that are whole."""
        if not self.path.exists():
            return []
        lines = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

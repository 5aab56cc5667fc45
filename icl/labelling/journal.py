"""What a labelling has computed so far, kept on disk until the labelled table is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from icl.errors import IclError
from icl.tasks.template import Fields


def row_key(fields: Fields) -> str:
    """Return a hash of what a learner reads of a row: 16 hexadecimal digits."""
    text = json.dumps(dict(fields), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """Rows' log-probabilities by `row_key`, appended to a hidden file beside the result.

    A last line that a kill has torn is passed over and written anew.
    """

    def __init__(self, out: Path, job: str, labels: int) -> None:
        """Open the journal of a job, or begin it.

        Args:
            out: the table that will be written.
            job: a hash of all that decides the numbers: another job has another journal.
            labels: columns of a row.
        """
        self.path = out.with_name(f".{out.name}.{job}.part")
        self._labels = labels
        self._rows = self._read()

    @property
    def rows(self) -> Mapping[str, Sequence[float]]:
        """What is known."""
        return self._rows

    def add(self, keys: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Keep the log-probabilities of some rows; raises `IclError` where the disk is full."""
        new = dict(zip(keys, (list(row) for row in rows), strict=True))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([key, row]) + "\n" for key, row in new.items())
        except OSError as error:
            raise IclError(f"{self.path} cannot be written: {error.strerror}.") from error
        self._rows.update(new)

    def close(self) -> None:
        """Remove the file: all that it holds stands in the labelled table."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Sequence[float]]:
        try:
            lines = self.path.read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            lines = []
        found: dict[str, Sequence[float]] = {}
        whole = []
        for line in lines:
            with suppress(ValueError, TypeError):
                key, row = json.loads(line)
                if line.endswith("\n") and len(row) == self._labels:
                    found[key] = row
                    whole.append(line)
        if len(whole) < len(lines):
            with suppress(OSError):
                self.path.write_text("".join(whole), "utf-8")
        return found

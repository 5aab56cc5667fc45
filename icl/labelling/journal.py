"""What a labelling has computed so far, kept on disk until the labelled table is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.tasks.template import Fields


def row_key(fields: Fields) -> str:
    """Return a hash of what a learner reads of a row: 16 hexadecimal digits."""
    text = json.dumps(dict(fields), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """Rows' log-probabilities by `row_key`, in `rows`, appended to a hidden file beside the result.

    Each line is ``[key, log-probabilities, checksum]``. A line that is no whole JSON, as a kill
    leaves it, is passed over and its row done anew; one that is whole and was changed is refused.
    """

    def __init__(self, out: Path, job: str, labels: int) -> None:
        """Open the journal of a job, or begin it.

        Args:
            out: the table that will be written.
            job: a hash of all that decides the numbers: another job has another journal.
            labels: columns of a row.

        Raises:
            IclError: the file cannot be read, or holds a line that no labelling has written.
        """
        self.path = out.with_name(f".{out.name}.{job}.part")
        self._labels = labels
        self.rows = self._read()

    def add(self, keys: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Keep the log-probabilities of some rows; raises `IclError` where the disk is full."""
        new = dict(zip(keys, ([float(x) for x in row] for row in rows), strict=True))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(_line(key, row) for key, row in new.items())
        except OSError as error:
            raise IclError(f"{self.path} cannot be written: {error.strerror}.") from error
        self.rows.update(new)

    def close(self) -> None:
        """Remove the file: all that it holds stands in the labelled table."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Sequence[float]]:
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise IclError(
                f"{self.path} cannot be read: {error.strerror or error}; remove it, and its rows"
                " are labelled again."
            ) from error
        found: dict[str, Sequence[float]] = {}
        whole = []
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):  # torn, or damaged by a disk
                continue
            if not line.endswith(b"\n"):
                continue
            if not self._is_sound(value, line):
                raise IclError(
                    f"{self.path}, line {number}: this is not what the labelling has written;"
                    " remove the file, and its rows are labelled again."
                )
            found[value[0]] = value[1]
            whole.append(line)
        if len(whole) < len(lines):
            with suppress(OSError):
                self.path.write_bytes(b"".join(whole))
        return found

    def _is_sound(self, value: Any, line: bytes) -> bool:
        """Tell whether a line is one that `add` has written, about so many labels."""
        match value:
            case [str(key), [*row], str()] if len(row) == self._labels:
                numbers = all(isinstance(x, float) and math.isfinite(x) for x in row)
                return numbers and line == _line(key, row).encode()
        return False


def _line(key: str, row: Sequence[float]) -> str:
    text = json.dumps([key, row])
    check = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f'{text[:-1]}, "{check}"]\n'

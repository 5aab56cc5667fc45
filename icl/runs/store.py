"""`RecordStore`: a run's records on disk, one line each, safe against a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from icl.errors import IclError, NewerSchemaError
from icl.runs.record import ChangedRecordError, EpisodeRecord
from icl.tools.disk import sync_folder

if sys.platform != "win32":
    import fcntl

_BLOCK = 1 << 16
_LINES_AT_ONCE = 500
_PART = re.compile(r"records\.[1-9]\d*\.jsonl")


class RecordStore:
    """Append-only ``records.jsonl`` in a run's folder.

    The promises, in the order in which they matter:

    - A record whose `append` has returned is on the disk (written and synced).
    - A writer killed in the middle of a line loses that line only: the next `append`, by whichever
      process, cuts the torn tail off first. A tail that lacks nothing but its newline is kept.
    - Several processes may append at once: each line is written under an exclusive file lock, so
      lines never interleave (on Windows, which has no such lock, use one writer).
    - A line damaged by something else is skipped with a warning, so that its episode is run again.
    - A line that is a whole record and not the one that was written is neither believed nor done
      again: whoever changed it is told, with `IclError`, which line it is.
    - Processes that share a run need no lock that all their machines know: each but the main one
      writes a part of its own, ``records.<number>.jsonl``. Readers see all parts; `gather` brings
      them into one file.

    No file stays open between calls, so a store may be shared with threads and forked processes.

    Args:
        folder: the run's folder.
        part: of the process that writes; 0 is the main one.
    """

    def __init__(self, folder: Path, part: int = 0) -> None:
        name = "records.jsonl" if part == 0 else f"records.{part}.jsonl"
        self.path = Path(folder) / name
        self._told: dict[Path, list[int]] = {}  # the damaged lines that were warned of

    def append(self, record: EpisodeRecord) -> None:
        """Write one record and wait until it is on the disk; raises `IclError` where it cannot."""
        self._write((record.to_json() + "\n").encode())

    def read(self) -> list[EpisodeRecord]:
        """Return the records in the order of writing, the first of each key; [] for a new run."""
        records: dict[tuple[str, str], EpisodeRecord] = {}
        for record in self.scan():
            records.setdefault(record.key, record)
        return list(records.values())

    def scan(self) -> Iterator[EpisodeRecord]:
        """Yield the records of all parts one by one, so that memory does not grow with them.

        A key that was written twice comes twice.
        """
        for path in self._parts():
            damaged: list[int] = []
            yield from _scan(path, damaged)
            if damaged and self._told.get(path) != damaged:
                self._told[path] = damaged
                _warn(path, damaged)

    def gather(self) -> None:
        """Bring all parts into the main file; to be called where no other process writes.

        A kill at any moment loses nothing: a part is removed when all it holds is on the disk.

        Raises:
            IclError: the folder cannot be written.
        """
        parts = [path for path in self._parts() if path != self._parts()[0]]
        if not parts:
            return
        main = RecordStore(self.path.parent)
        done = {record.key for record in _scan(main.path, [])}
        for path in parts:
            lines: list[str] = []
            damaged: list[int] = []
            for record in _scan(path, damaged):
                if record.key not in done:
                    done.add(record.key)
                    lines.append(record.to_json() + "\n")
                if len(lines) == _LINES_AT_ONCE:
                    main._write("".join(lines).encode())
                    lines.clear()
            if lines:
                main._write("".join(lines).encode())
            if damaged:
                _warn(path, damaged)
            try:
                path.unlink()
            except OSError as error:
                raise _unwritable(path, error) from error

    def _parts(self) -> list[Path]:
        """Return the main file, whether or not it is there, and the parts that are."""
        found = sorted(
            (path for path in self.path.parent.glob("records.*.jsonl") if _PART.match(path.name)),
            key=lambda path: int(path.name.split(".")[1]),
        )
        return [self.path.parent / "records.jsonl", *found]

    def _write(self, lines: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            # Binary mode exists on Windows only, where text mode would turn "\n" into "\r\n".
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self.path, flags, 0o644)
            try:
                if sys.platform != "win32":
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                _mend_tail(descriptor)
                _write_whole(descriptor, lines)
            finally:
                os.close(descriptor)  # releases the lock
            if new:
                sync_folder(self.path.parent)
        except ChangedRecordError as error:
            raise _changed(f"{self.path}, last line", error) from error
        except OSError as error:
            raise _unwritable(self.path, error) from error


def same_outcomes(a: Iterable[EpisodeRecord], b: Iterable[EpisodeRecord]) -> bool:
    """Say whether two runs agree on everything but `cost` and the order of writing.

    This is what "resumed equals uninterrupted" means: time and memory differ between any two runs.
    """
    first = {record.key: record.outcome() for record in a}
    second = {record.key: record.outcome() for record in b}
    return first == second


def _scan(path: Path, damaged: list[int]) -> Iterator[EpisodeRecord]:
    """Yield the records of one file, line by line, and note the numbers of damaged lines."""
    try:
        with path.open("rb") as file:
            # Lines end in newlines only: `splitlines` would also split at U+2028, which text has.
            for number, line in enumerate(file, start=1):
                whole = line.endswith(b"\n")
                try:
                    record = _parse(line.removesuffix(b"\n"))
                except ChangedRecordError as error:
                    raise _changed(f"{path}, line {number}", error) from error
                if record is not None:
                    yield record
                elif whole:
                    damaged.append(number)
                # A tail without a newline is a line that some process is writing or died in.
    except FileNotFoundError:
        return
    except OSError as error:
        raise IclError(f"Cannot read {path}: {error.strerror or error}.") from error


def _warn(path: Path, damaged: list[int]) -> None:
    shown = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
    warnings.warn(
        f"{path}: skipped {len(damaged)} damaged line(s) ({shown}); "
        "an episode without another record is run again.",
        stacklevel=3,
    )


def _changed(where: str, error: ChangedRecordError) -> IclError:
    return IclError(
        f"{where}: {error}; put back what was there, or remove the line, and the episode is run"
        " again."
    )


def _unwritable(path: Path, error: OSError) -> IclError:
    return IclError(
        f"Cannot write {path}: {error.strerror or error}; "
        "mend that and run again: finished episodes are kept and not run twice."
    )


def _parse(line: bytes) -> EpisodeRecord | None:
    try:
        return EpisodeRecord.from_json(line.decode())
    except (NewerSchemaError, ChangedRecordError):  # no damage: not to be cut off or done again
        raise
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None


def _mend_tail(descriptor: int) -> None:
    """Bring the file to end in a newline; the lock says that nobody is still writing the tail."""
    end = start = os.lseek(descriptor, 0, os.SEEK_END)
    tail = b""
    while start > 0 and b"\n" not in tail:
        step = min(_BLOCK, start)
        start -= step
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, step) + tail
    tail = tail[tail.rfind(b"\n") + 1 :]
    if tail and _parse(tail) is not None:
        _write_whole(descriptor, b"\n")
    elif tail:
        os.ftruncate(descriptor, end - len(tail))


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write and sync all of `data`, or take back the part that was written and raise `OSError`."""
    before = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        written = 0
        while written < len(data):  # a filling disk takes a part first and refuses the rest
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # where this fails too, the next append mends the tail
            os.ftruncate(descriptor, before)
        raise

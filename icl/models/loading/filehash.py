"""SHA-256 of files' bytes, remembered for as long as a file cannot have been written since.

A large file's hash is kept in the cache directory beside the file's size, times, inode and device.
The time of the last change of the inode (``ctime``) cannot be set by hand, so that a byte changed
behind a restored size and ``mtime`` is seen. As git does with its index ("racy git"), a hash is
kept only where the file was last changed clearly before it was read: a change within the same tick
of the clock has no other time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from icl.errors import IclError
from icl.tools.cache import cache_dir, sha256_file
from icl.tools.progress import progress

_SMALL = 2**20  # bytes; smaller files are read each time
_LARGE = 2**30  # bytes; from here on it is told how far the reading is
_SETTLED = 2 * 10**9  # nanoseconds; the coarsest file systems count in steps of two seconds
_TRIES = 3
_THREADS = 8

Stamp = tuple[int, int, int, int, int]


def stamp(path: Path) -> Stamp:
    """Return what changes whenever a file is written: size, mtime, ctime, inode, device."""
    found = path.stat()
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_size, *times, found.st_ino, found.st_dev)


def file_hashes(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file's bytes in hexadecimal; several are read at once.

    Raises:
        IclError: a file cannot be read, or is being written all the while.
    """
    try:
        sizes = [path.stat().st_size for path in paths]
        new = sum(s for p, s in zip(paths, sizes, strict=True) if _remembered(p) is None)
        shown = new >= _LARGE  # lines only: this may run beneath another bar
        with (
            progress("Reading the model's files", shown=shown, live=False) as bar,
            ThreadPoolExecutor(_THREADS) as pool,
        ):
            found = []
            for digest, size in zip(pool.map(_hash, paths), sizes, strict=True):
                found.append(digest)
                if size:
                    bar.advance(size / sum(sizes))
            return found
    except OSError as error:
        what = error.strerror or str(error)
        raise IclError(f"Cannot read {error.filename} ({what}); check the file.") from error


def _hash(path: Path) -> str:
    for _ in range(_TRIES):
        known = _remembered(path)
        if known is not None:
            return known
        before, now = stamp(path), time.time_ns()
        digest = sha256_file(path)
        if stamp(path) == before:
            if before[0] >= _SMALL and now - max(before[1:3]) > _SETTLED:
                _remember(path, before, digest)
            return digest
    raise IclError(f"{path} is being written; run again when it is whole.")


def _remembered(path: Path) -> str | None:
    """Return a file's hash where it is remembered and the file is as it was."""
    try:
        known = json.loads(_note(path).read_text("utf-8"))
        digest = known["sha256"]
        right = known["stamp"] == list(stamp(path)) and len(bytes.fromhex(digest)) == 32
    except (OSError, ValueError, TypeError, KeyError, IclError):
        return None  # never read before, or a damaged note
    return str(digest) if right else None


def _remember(path: Path, at: Stamp, digest: str) -> None:
    """Keep a file's hash, where the cache can be written."""
    with contextlib.suppress(OSError, IclError):
        note = _note(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{note.name}.", suffix=".tmp", dir=note.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"file": str(path.resolve()), "stamp": at, "sha256": digest}, file)
            Path(draft).replace(note)
        finally:
            Path(draft).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    """Return where a file's hash is kept: one small file for each, so that no writer waits."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache_dir() / "hashes" / f"{name}.json"

"""`EmbeddingStore`: vectors by content hash in one file, shared by many processes.

A file is a row of records of one size: the key (16 bytes), the work that the vector
took (`WORK`), the vector (little-endian float32) and a checksum of all three (8 bytes), keyed by
the store's name. Records are only ever added at the end, under a lock; readers take none. A writer
killed halfway leaves a part of a record at the end, which readers do not see and the next writer
cuts off.

What a reader remembers of a file is only where to look. Each record is read anew, and its key and
checksum are held against what was asked for, in the bytes that are handed out: whatever others cut,
replace or overwrite meanwhile, a text gets its own vector or none, and is then embedded again and
added anew. Files are read, not mapped: a mapped file that is cut short ends the process.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from icl.tools.cache import cache_dir

VARIABLE = "ICL_EMBEDDINGS"
OFF = "off"
_KEY_BYTES, _CHECK_BYTES, _SEAL_BYTES = 16, 8, 64
_AT_ONCE = 4096  # records that are looked at in one piece
_OPEN: dict[tuple[str, int], EmbeddingStore] = {}

Vectors = NDArray[np.float32]
Work = NDArray[np.void]  # of `WORK`
# a text's own tokens; rows computed in whole forward passes, seconds and operations: its share of
# the pass that it ran in
WORK = np.dtype([("tokens", "<u4"), ("computed", "<f4"), ("seconds", "<f4"), ("flops", "<f8")])


def content_key(text: str) -> bytes:
    """Return the key of a text: 16 bytes of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


def open_store(name: str, width: int) -> EmbeddingStore:
    """Return the store of that name, one object for each in a process.

    It lies under ``$ICL_EMBEDDINGS``, else under ``embeddings`` in the cache directory. With
    ``ICL_EMBEDDINGS=off`` vectors are kept in memory only.
    """
    where = os.environ.get(VARIABLE) or str(cache_dir() / "embeddings")
    path = None if where == OFF else Path(where).expanduser() / f"{name}.vectors"
    return _OPEN.setdefault((str(path or name), width), EmbeddingStore(path, width))


class EmbeddingStore:
    """Vectors of one model and setting.

    Args:
        path: the file, made when the first vector is written; None to keep vectors in memory. A
            file of another name is another store, whose records are not taken for this one's.
        width: numbers in a vector.
    """

    def __init__(self, path: Path | None, width: int) -> None:
        name = "" if path is None else path.stem
        self._path = path
        self._width = width
        self._record = np.dtype(
            [
                ("key", "u1", (_KEY_BYTES,)),
                ("work", WORK),
                ("vector", "<f4", (width,)),
                ("check", "u1", (_CHECK_BYTES,)),
            ]
        )
        self._memory: dict[bytes, tuple[np.void, Vectors]] = {}
        self._seal = name.encode()[-_SEAL_BYTES:]
        self._place: dict[bytes, int] = {}
        self._seen: tuple[int, int, int] = (0, 0, 0)  # device, inode and records looked at

    def read(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors, Work]:
        """Look keys up.

        Returns:
            Which keys are there, shape (keys,), their vectors, shape (keys, width), and the work
            that they took, shape (keys,); zeros for those that are not there.
        """
        found = np.zeros(len(keys), dtype=bool)
        vectors = np.zeros((len(keys), self._width), dtype=np.float32)
        work = np.zeros(len(keys), dtype=WORK)
        for i, record in self._on_disk(keys):
            found[i], vectors[i], work[i] = True, record["vector"], record["work"]
        for i, key in enumerate(keys):
            if not found[i] and key in self._memory:
                work[i], vectors[i] = self._memory[key]
                found[i] = True
        return found, vectors, work

    def _on_disk(self, keys: Sequence[bytes]) -> Iterator[tuple[int, np.void]]:
        """Yield the places of keys that the file has, and their records."""
        if self._path is None:
            return
        left = list(range(len(keys)))
        try:
            with self._path.open("rb", buffering=0) as file:
                for _ in range(2):
                    self._look(file)
                    missed, astray = [], False
                    for i in left:
                        row = self._place.get(keys[i])
                        record = None if row is None else self._record_at(file, row)
                        if record is not None and record["key"].tobytes() == keys[i]:
                            yield i, record
                        else:
                            missed.append(i)
                            astray |= row is not None
                    if not astray:
                        return
                    left, self._place, self._seen = missed, {}, (0, 0, 0)  # not what was seen
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)

    def _look(self, file: FileIO) -> None:
        """Learn where the records are that were added since the last look."""
        found, size = os.fstat(file.fileno()), self._record.itemsize
        device, inode, count = self._seen
        now = found.st_size // size
        if (found.st_dev, found.st_ino) != (device, inode) or now < count:
            self._place, count = {}, 0
        file.seek(count * size)
        while count < now:
            some = np.frombuffer(_read(file, min(now - count, _AT_ONCE) * size), np.uint8)
            rows = some[: len(some) // size * size].reshape(-1, size)
            data = rows[:, :_KEY_BYTES].tobytes()
            for i in range(len(rows)):  # a later record replaces an earlier one of the same key
                self._place[data[i * _KEY_BYTES : (i + 1) * _KEY_BYTES]] = count + i
            count += len(rows)
            if not len(rows):
                break  # it was cut short meanwhile
        self._seen = (found.st_dev, found.st_ino, count)

    def _record_at(self, file: FileIO, row: int) -> np.void | None:
        """Read a record, or None where there is no whole one."""
        size = self._record.itemsize
        file.seek(row * size)
        data = _read(file, size)
        if len(data) < size or data[-_CHECK_BYTES:] != self._checksum(data):
            return None
        record: np.void = np.frombuffer(data, self._record)[0]
        return record

    def _checksum(self, record: bytes) -> bytes:
        """Hash a record; its last bytes are left out, where the hash stands."""
        body = record[:-_CHECK_BYTES]
        return hashlib.blake2b(body, digest_size=_CHECK_BYTES, key=self._seal).digest()

    def write(self, keys: Sequence[bytes], vectors: Vectors, work: Work) -> None:
        """Keep vectors, shape (keys, width), and the work they took, (keys,), for all processes.

        Where the disk cannot be written they are kept in memory, and a warning says so.
        """
        if self._path is None:
            self._remember(keys, vectors, work)
            return
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        records["work"] = work
        records["vector"] = vectors
        for i in range(len(records)):
            check = self._checksum(records[i].tobytes())
            records["check"][i] = np.frombuffer(check, np.uint8)
        try:
            self._append(self._path, records.tobytes())
        except OSError as error:
            self._give_up(error)
            self._remember(keys, vectors, work)

    def _give_up(self, error: OSError) -> None:
        """Use the file no more, and say so."""
        warnings.warn(
            f"Embeddings cannot be kept in {self._path} ({error.strerror or error}); this run"
            f" keeps them in memory. Name another directory in {VARIABLE}.",
            stacklevel=3,
        )
        self._path = None

    def _remember(self, keys: Sequence[bytes], vectors: Vectors, work: Work) -> None:
        for key, vector, took in zip(keys, vectors, work, strict=True):
            self._memory[key] = (took.copy(), vector.astype(np.float32))

    def _append(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")), path.open("ab") as file:
            torn = file.tell() % self._record.itemsize
            if torn:  # a writer was killed here
                file.truncate(file.tell() - torn)
            file.write(data)


def _read(file: FileIO, count: int) -> bytes:
    """Read so many bytes, or fewer at the file's end."""
    parts = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

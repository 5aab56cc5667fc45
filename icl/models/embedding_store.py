"""`EmbeddingStore`: vectors by content hash in one memory-mapped file, shared by many processes.

A file is a row of records of one size: the key (16 bytes), the work that the vector took (`WORK`),
the vector (little-endian float32) and a checksum of all three (8 bytes). Records are only ever
added at the end, under a lock; readers take none. A writer killed halfway leaves a part of a record
at the end, which readers do not see and the next writer cuts off. A record whose checksum does not
fit is as if it were not there: its text is embedded again and added anew.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from icl.cache import cache_dir

VARIABLE = "ICL_EMBEDDINGS"
OFF = "off"
_KEY_BYTES, _CHECK_BYTES = 16, 8
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
        path: the file, made when the first vector is written; None to keep vectors in memory.
        width: numbers in a vector.
    """

    def __init__(self, path: Path | None, width: int) -> None:
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
        self._records: np.ndarray = np.empty(0, self._record)
        self._place: dict[bytes, int] = {}
        self._checked: set[int] = set()

    def read(self, keys: Sequence[bytes]) -> tuple[NDArray[np.bool_], Vectors, Work]:
        """Look keys up.

        Returns:
            Which keys are there, shape (keys,), their vectors, shape (keys, width), and the work
            that they took, shape (keys,); zeros for those that are not there.
        """
        if self._path is not None:
            self._refresh()
        found = np.zeros(len(keys), dtype=bool)
        vectors = np.zeros((len(keys), self._width), dtype=np.float32)
        work = np.zeros(len(keys), dtype=WORK)
        rows, at = [], []
        for i, key in enumerate(keys):
            row = self._place.get(key)
            if row is not None and self._is_sound(row, key):
                rows.append(row)
                at.append(i)
            elif key in self._memory:
                work[i], vectors[i] = self._memory[key]
                found[i] = True
        if rows:
            vectors[at] = self._records["vector"][rows]
            work[at] = self._records["work"][rows]
            found[at] = True
        return found, vectors, work

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
        for record in records:
            record["check"] = np.frombuffer(_checksum(record), np.uint8)
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

    def _refresh(self) -> None:
        """Map what has been added since the last look."""
        assert self._path is not None
        try:
            count = self._path.stat().st_size // self._record.itemsize
        except OSError:
            count = 0
        if count == len(self._records):
            return
        if count < len(self._records):  # the user emptied the cache
            self._place, self._checked = {}, set()
            self._records = np.empty(0, self._record)
        if count == 0:
            return
        first = len(self._records)
        try:
            self._records = np.memmap(self._path, self._record, "r", shape=(count,))
        except OSError as error:
            self._give_up(error)
            return
        keys = np.ascontiguousarray(self._records["key"][first:]).tobytes()
        for i in range(count - first):  # a later record replaces an earlier one of the same key
            self._place[keys[i * _KEY_BYTES : (i + 1) * _KEY_BYTES]] = first + i

    def _is_sound(self, row: int, key: bytes) -> bool:
        if row in self._checked:
            return True
        record = self._records[row]
        if record["check"].tobytes() != _checksum(record):
            del self._place[key]
            return False
        self._checked.add(row)
        return True


def _checksum(record: np.void) -> bytes:
    data = b"".join(record[part].tobytes() for part in ("key", "work", "vector"))
    return hashlib.blake2b(data, digest_size=_CHECK_BYTES).digest()

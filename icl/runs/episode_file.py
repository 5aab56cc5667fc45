"""`EpisodeFile`: a run's episodes on disk, read one by one as they are asked for."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, overload

from icl.episodes import Episode
from icl.episodes.episode import line_hash
from icl.errors import IclError


class EpisodeFile(Sequence[Episode]):
    """The lines of an ``episodes.jsonl``; in memory is only where they begin, and their hashes.

    Attributes:
        digest: SHA-256 of the file.

    Raises:
        IclError: there is no such file, it cannot be read, or a line is no episode.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = array("Q")
        self._hashes = bytearray()
        start, digest = 0, hashlib.sha256()
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.strip():
                        self._starts.append(start)
                        self._hashes += line_hash(line.rstrip(b"\n"))
                    start += len(line)
                    digest.update(line)
        except FileNotFoundError as error:
            raise IclError(
                f"{path.parent} is not a run's folder: it has no {path.name}; give the folder"
                " that `icl run` named."
            ) from error
        except OSError as error:
            raise IclError(f"Cannot read {path} ({error}); run the experiment again.") from error
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        try:
            with self._path.open("rb") as file:
                file.seek(self._starts[index])
                return Episode.from_json(file.readline().decode())
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IclError(
                f"Cannot read {self._path} ({error}); run the experiment again."
            ) from error

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint of an episode, without reading it."""
        return self._hashes[8 * index : 8 * index + 8].hex()

    def find(self, fingerprint: str) -> Episode:
        """Return the episode with a fingerprint; raises `KeyError` where there is none."""
        for index, found in enumerate(self.fingerprints()):
            if found == fingerprint:
                return self[index]
        raise KeyError(fingerprint)

    def fingerprints(self) -> Iterator[str]:
        """Yield all fingerprints, in order."""
        return map(self.fingerprint, range(len(self)))


def write_lines(file: BinaryIO, episodes: Iterable[Episode]) -> str:
    """Write episodes as lines, one at a time; return the hash of all bytes."""
    digest = hashlib.sha256()
    for episode in episodes:
        line = (episode.to_json() + "\n").encode()
        digest.update(line)
        file.write(line)
    return digest.hexdigest()

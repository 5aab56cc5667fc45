"""`RunFolder`: all that a run leaves behind, so that it can be resumed, reported and replayed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from icl.episodes import Episode
from icl.errors import IclError, NewerSchemaError
from icl.runs.episode_file import EpisodeFile, write_lines
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore
from icl.tools.cache import sha256_file
from icl.tools.disk import draft_of
from icl.tools.yamlfile import read_yaml

SCHEMA_VERSION = 1
EPISODES = "episodes.jsonl"
FINISHED = "finished.json"  # of a meta-training, in its own folder
_DEPTHS = ("*", "meta/*", "meta/*/*")  # where a run writes


class RunFolder:
    """A run's folder.

    - ``config.yaml``: the experiment, complete with defaults; runs as it stands.
    - ``environment.json``: versions and machine.
    - ``episodes.jsonl``: every episode that learners are compared on, one `Episode` a line.
    - ``run.json``: the learners with their keys, the model, and what meta-training cost.
    - ``records.jsonl``: one `EpisodeRecord` a line, appended as they are made; while several
      processes are at work, ``records.<n>.jsonl`` beside it.
    - ``meta/``: checkpoints of meta-training.
    - ``report.html``.

    All but the records are replaced as a whole, so that no reader ever meets half a file.
    """

    def __init__(self, path: Path, part: int = 0) -> None:
        """Name a folder; it is made when it is locked or written.

        Args:
            path: the folder.
            part: of the process whose records are appended, see `RecordStore`.
        """
        self.path = path
        self.store = RecordStore(path, part)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run.

        Raises:
            IclError: another run holds it, it cannot be written, or something in it is a link, by
                which a folder from elsewhere would make us write somewhere else.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for entry in (x for depth in _DEPTHS for x in self.path.glob(depth)):
                if entry.is_symlink():
                    raise IclError(
                        f"{entry} is a link, and a run writes into its own folder only; put there"
                        " what it points to, or give another folder with --out."
                    )
            lock = FileLock(self.path / ".lock")
            lock.acquire(blocking=False)
        except Timeout as error:
            raise IclError(
                f"Another run is at work in {self.path}; wait for it or give another folder with"
                " --out."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self.read_derived("run.json")  # a newer icl's folder is left as it is
            for stale in self.path.glob(".*.tmp"):  # of writers that were killed
                with suppress(OSError):
                    stale.unlink()
            yield
        finally:
            lock.release()

    def begin(self, config: str) -> None:
        """Write ``config.yaml`` into a new folder, so that it can be resumed from the first moment.

        In a folder with results the file stays until the runner writes the roster that fits it.
        """
        if not (self.path / "run.json").exists():
            self.write("config.yaml", config)

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder as a whole; raises `IclError` where it cannot be written."""
        target = self.path / name
        with draft_of(target) as draft, self._told():
            target.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(text.encode())
                _settle(file)
            draft.replace(target)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a disk's fault into a sentence."""
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file of the folder."""
        self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_derived(self, name: str) -> dict[str, Any]:
        """Return the JSON object of a file that a run makes anew; empty where it is no good.

        Raises:
            NewerSchemaError: a newer icl has written it.
        """
        try:
            found = self.read_json(name)
        except NewerSchemaError:
            raise
        except IclError:
            return {}
        return found if isinstance(found, dict) else {}

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file of the folder, or None where there is none.

        Raises:
            IclError: the file is damaged, or a newer icl has written it.
        """
        try:
            value = json.loads((self.path / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise IclError(
                f"Cannot read {self.path / name} ({error}); remove it and run again."
            ) from error
        version = value.get("schema_version", 0) if isinstance(value, dict) else 0
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerSchemaError(self.path / name, version, SCHEMA_VERSION)
        return value

    def read_yaml(self, name: str) -> Any:
        """Return the fields of a YAML file of the folder; raises `IclError` where it has none."""
        found = read_yaml(self.path / name)[0]
        if not isinstance(found, dict):
            raise IclError(f"{self.path / name} is damaged; let `icl run` write it again.")
        return found

    @contextmanager
    def drawn(self, episodes: Iterable[Episode]) -> Iterator[Callable[[], None]]:
        """Draw episodes, one at a time, into a draft; yields what puts it into its place.

        So they can be checked before other things that may fail, and replaced after these.
        """
        target = self.path / EPISODES
        with draft_of(target) as draft:
            with self._told():
                target.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("wb") as file:
                    digest = write_lines(file, episodes)
                    _settle(file)

            def place() -> None:
                with self._told():
                    if not _holds(target, digest):
                        draft.replace(target)

            yield place

    def episodes(self) -> EpisodeFile:
        """Return the episodes of the run, to be read one by one.

        Raises:
            IclError: there are none.
        """
        return EpisodeFile(self.path / EPISODES)

    def records(self, keys: Mapping[str, str], fingerprints: Sequence[str]) -> list[EpisodeRecord]:
        """Return the records of some learners on some episodes, in that order.

        The order of writing, earlier names and records of other configurations leave no trace.

        Args:
            keys: learner key by the learner's name.
            fingerprints: of the episodes.
        """
        asked = set(keys.values())
        found: dict[tuple[str, str], EpisodeRecord] = {}
        for record in self.store.scan():
            if record.learner_key in asked:
                found.setdefault(record.key, record)
        return [
            replace(found[key, fingerprint], learner=name)
            for name, key in keys.items()
            for fingerprint in fingerprints
            if (key, fingerprint) in found
        ]

    def _unwritable(self, error: OSError) -> IclError:
        return IclError(
            f"Cannot write the run's folder {self.path} ({error.strerror or error}); free some"
            " space or give another folder with --out."
        )


def _holds(target: Path, digest: str) -> bool:
    try:
        return sha256_file(target) == digest
    except OSError:  # it is not there, or cannot be read and is written again
        return False


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

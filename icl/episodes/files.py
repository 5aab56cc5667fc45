"""`EpisodeSet`: episodes saved as JSON Lines with a manifest, to share, check and draw again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from icl.episodes.episode import Episode
from icl.episodes.origin import data_hash, sampler_arguments, sampler_from
from icl.episodes.sampler import EpisodeSampler
from icl.episodes.splits import without_leaks
from icl.episodes.validity import check_episode, check_nested
from icl.episodes.variants import VARIANTS
from icl.errors import IclError, did_you_mean
from icl.tasks.loaded import TaskFamily
from icl.tools.cache import sha256_file
from icl.tools.progress import progress, told

SCHEMA_VERSION = 1
EPISODES, MANIFEST = "episodes.jsonl", "manifest.json"


@dataclass(frozen=True)
class EpisodeSet:
    """A folder with ``episodes.jsonl``, one episode a line, and ``manifest.json``.

    Attributes:
        path: the folder.
        manifest: ``schema_version``; ``episodes`` (lines) and ``sha256`` of the lines; and for a
            set drawn here ``family`` (name, source and a hash of the data drawn from),
            ``sampler`` (its arguments), ``count`` (indices), ``variant`` and ``drop_leaks``.
    """

    path: Path
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.manifest["episodes"])

    def __iter__(self) -> Iterator[Episode]:
        return (episode for _, episode in read_lines(self.path / EPISODES))

    def check(self, near: float | None = None) -> None:
        """Check the file against its manifest and every episode against the rules.

        Args:
            near: also refuse support and query texts that are at least this similar.

        Raises:
            IclError: the lines were changed or cut, or `check_lines` finds a fault.
        """
        file = self.path / EPISODES
        if sha256_file(file) != self.manifest["sha256"]:
            raise IclError(
                f"{file} is not the file that {MANIFEST} was written for (its SHA-256 differs); "
                "get it again."
            )
        number = check_lines(file, near)
        if number != len(self):
            raise IclError(
                f"{file} has {number} lines where {MANIFEST} says {len(self)}; get it again."
            )

    def sampler(self, family: TaskFamily) -> EpisodeSampler:
        """Return the sampler that the set was drawn with.

        Raises:
            IclError: the set was not drawn here, or the family does not give what it needs.
        """
        arguments = self.manifest.get("sampler")
        if arguments is None:
            raise IclError(f"{self.path / MANIFEST} names no sampler; the set can only be checked.")
        if self.manifest["drop_leaks"]:
            family = without_leaks(family, arguments["near"])
        return sampler_from(family, arguments)

    def check_again(self, family: TaskFamily) -> None:
        """Draw the set again and compare it byte for byte.

        Raises:
            IclError: the family's data has changed, or an episode comes out different.
        """
        sampler = self.sampler(family)
        if data_hash(sampler) != self.manifest["family"]["hash"]:
            raise IclError(
                f"The data of the task family {family.name!r} is not what {self.path} was drawn "
                "from (its hash differs); get the same version of the data."
            )
        drawn = _drawn(sampler, self.manifest["count"], self.manifest["variant"])
        with (self.path / EPISODES).open(encoding="utf-8", newline="\n") as lines:
            for number, (line, episode) in enumerate(itertools.zip_longest(lines, drawn), 1):
                if line is None or episode is None or line != episode.to_json() + "\n":
                    raise IclError(
                        f"{self.path / EPISODES}, line {number} is not what the sampler draws "
                        "again; make the set with this version of icl."
                    )


def save_episodes(
    path: Path,
    sampler: EpisodeSampler,
    count: int,
    *,
    variant: str | None = None,
    source: str = "",
    dropped_leaks: bool = False,
    overwrite: bool = False,
) -> EpisodeSet:
    """Draw the first `count` indices and save them; the folder appears whole or not at all.

    Args:
        path: the folder to make.
        sampler: where the episodes come from.
        count: how many indices to draw, each at all of the sampler's shots.
        variant: a name in `icl.episodes.variants.VARIANTS`, or None.
        source: how to load the family again, kept in the manifest.
        dropped_leaks: whether the family went through `without_leaks` with the sampler's `near`.
        overwrite: whether to replace a folder that is there.

    Raises:
        IclError: the folder exists or cannot be written, or the variant is unknown.
    """
    if variant is not None and variant not in VARIANTS:
        raise IclError(f"There is no variant {variant!r}." + did_you_mean(variant, VARIANTS))
    origin = {
        "family": {"name": sampler.family.name, "source": source, "hash": data_hash(sampler)},
        "sampler": sampler_arguments(sampler),
        "count": count,
        "variant": variant,
        "drop_leaks": dropped_leaks,
    }
    return write_set(path, _drawn(sampler, count, variant), origin, overwrite=overwrite)


def write_set(
    path: Path,
    episodes: Iterable[Episode],
    origin: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> EpisodeSet:
    """Save any episodes as a set; `origin` joins the manifest. Raises as `save_episodes`."""
    if path.exists() and not overwrite:
        raise IclError(f"{path} exists; name another folder or overwrite it.")
    if path.exists() and not (path / MANIFEST).is_file():
        raise IclError(f"{path} is not an episode set and stays; name another folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            draft = Path(scratch) / "set"
            draft.mkdir()
            lines, digest = 0, hashlib.sha256()
            with (
                (draft / EPISODES).open("wb") as file,
                progress("Drawing", counted=False) as bar,
            ):
                for episode in told(episodes, bar, "episode"):
                    line = (episode.to_json() + "\n").encode()
                    digest.update(line)
                    file.write(line)
                    lines += 1
                _settle(file)
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "episodes": lines,
                "sha256": digest.hexdigest(),
                **(origin or {}),
            }
            with (draft / MANIFEST).open("wb") as file:
                text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
                file.write(text.encode())
                _settle(file)
            if path.exists():
                path.replace(Path(scratch) / "old")
            draft.replace(path)
    except OSError as error:
        raise IclError(
            f"{path} cannot be written ({error.strerror}); name another folder."
        ) from error
    return EpisodeSet(path, manifest)


def open_episodes(path: Path) -> EpisodeSet:
    """Open a saved set; the lines are read as they are asked for, see also `EpisodeSet.check`.

    Raises:
        IclError: the folder is not an episode set, or one of another schema version.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IclError(
            f"{file} cannot be read ({error}); name a folder that `icl episodes make` made."
        ) from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise IclError(
            f"{file} has the schema version {version}; this version of icl reads {SCHEMA_VERSION}."
        )
    for field, kind in (("episodes", int), ("sha256", str)):
        if not isinstance(manifest.get(field), kind):
            raise IclError(f"{file} lacks the field {field!r}; get the file again.")
    if not (path / EPISODES).is_file():
        raise IclError(f"{path} lacks {EPISODES}; get the folder again.")
    return EpisodeSet(path, manifest)


def read_lines(file: Path) -> Iterator[tuple[int, Episode]]:
    """Read a file with an episode a line: (line number, episode), one at a time.

    Raises:
        IclError: the file cannot be read or a line is not an episode.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield number, Episode.from_json(line.decode())
                except (ValueError, KeyError, TypeError, AttributeError, IclError) as error:
                    raise IclError(
                        f"{file}, line {number} is not an episode ({error}); make the set again."
                    ) from error
    except OSError as error:
        raise IclError(
            f"{file} cannot be read ({error.strerror}); name a file of episodes."
        ) from error


def check_lines(file: Path, near: float | None = None) -> int:
    """Check each episode of a file and that those of one index are paired over shots.

    Returns:
        The number of episodes.

    Raises:
        IclError: see `check_episode` and `check_nested`; the message names the line.
    """
    before: Episode | None = None
    number = 0
    for number, episode in read_lines(file):
        name = f"{file}, line {number}: the episode {episode.index} with {episode.shots} shots"
        check_episode(episode, name, near)
        if before is not None and _place(before) == _place(episode):
            check_nested(before, episode, name)
        before = episode
    return number


def _settle(file: BinaryIO) -> None:
    """See that what was written is on the disk before the folder gets its name."""
    file.flush()
    os.fsync(file.fileno())


def _drawn(sampler: EpisodeSampler, count: int, variant: str | None) -> Iterator[Episode]:
    drawn = sampler.episodes(count)
    return drawn if variant is None else map(VARIANTS[variant], drawn)


def _place(episode: Episode) -> tuple[str, int, str, str, int]:
    return (episode.split, episode.seed, episode.setting, episode.task, episode.index)

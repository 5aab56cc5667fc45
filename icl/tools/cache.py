"""The user's cache directory, and folders in it that are built once, whole and verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from icl.errors import IclError
from icl.tools.progress import note

MANIFEST = "manifest.json"


def cache_dir() -> Path:
    """Return the cache directory: ``$ICL_CACHE``, else ``icl`` under the user's cache directory."""
    given = os.environ.get("ICL_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "icl"
    except RuntimeError as error:
        raise IclError("There is no home directory for caches; name one in ICL_CACHE.") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def build_once(folder: Path, build: Callable[[Path], None], *, what: str, size: int) -> Path:
    """Return `folder`, whole: found and verified, or built now.

    `build` fills an empty folder beside it, which takes its name only when it is complete and its
    manifest (size and SHA-256 of each file) is written: a build killed at any moment leaves
    nothing that could be taken for a whole one. One process builds, others wait for it. A folder
    whose files no longer match the manifest is said to be damaged and built again.

    Args:
        folder: where the result lies.
        build: makes the files in the folder that it is given.
        what: names the content in messages, e.g. ``"the packaged Gemma"``.
        size: bytes of free disk that building needs at its peak.

    Raises:
        IclError: the folder cannot be written, or the disk is full.
    """
    if damage(folder) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, what):
            return _build(folder, build, what, size)
    except OSError as error:
        reason = error.strerror or str(error)
        raise IclError(
            f"Cannot store {what} under {folder.parent} ({reason}); free some space or name"
            " another directory in the environment variable ICL_CACHE."
        ) from error


def damage(folder: Path) -> str | None:
    """Say what is wrong with a built folder, or return None when every file is as it was written.

    A folder that is not there is wrong too: ``"it is missing"``.
    """
    if not folder.is_dir():
        return "it is missing"
    try:
        files: dict[str, dict[str, int | str]] = json.loads((folder / MANIFEST).read_text("utf-8"))
        if not files:
            raise ValueError("no files")
        for name, entry in files.items():
            path = folder / name
            if not path.is_file() or ".." in Path(name).parts:
                return f"{name} is missing"
            if path.stat().st_size != entry["size"]:
                return f"{name} has another size than when it was written"
        for name, entry in files.items():
            if sha256_file(folder / name) != entry["sha256"]:
                return f"{name} has another checksum than when it was written"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return None


@contextmanager
def _locked(folder: Path, what: str) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        note(f"another process is building {what}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(folder: Path, build: Callable[[Path], None], what: str, size: int) -> Path:
    wrong = damage(folder)
    if wrong is None:
        return folder
    prefix = f".{folder.name}."
    for stale in folder.parent.glob(f"{prefix}*.tmp"):  # left by a build that was killed
        shutil.rmtree(stale, ignore_errors=True)
    if folder.exists():
        note(f"the cached copy of {what} in {folder} is damaged ({wrong}): building it again.")
        _remove(folder)
    free = shutil.disk_usage(folder.parent).free
    if free < size:
        raise IclError(
            f"Storing {what} under {folder.parent} needs {size / 1e9:.1f} GB and"
            f" {free / 1e9:.1f} GB are free; free some space or name another directory in the"
            " environment variable ICL_CACHE."
        )
    draft = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=folder.parent))
    try:
        build(draft)
        _write_manifest(draft)
        draft.chmod(0o755)  # mkdtemp's 0700 would lock others out of a shared cache
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _remove(folder: Path) -> None:
    """Take the name away first, so that a removal cut short never leaves half a folder under it."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    folder.replace(aside / "damaged")
    shutil.rmtree(aside, ignore_errors=True)


def _write_manifest(folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps(files, indent=1), "utf-8")

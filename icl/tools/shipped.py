"""Files that icl brings along: task definitions and experiments."""

from __future__ import annotations

from pathlib import Path

from icl.errors import IclError, did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Return a folder of files that icl brings along: ``tasks`` or ``configs``.

    In a wheel they lie inside the package, in a working copy beside it.
    """
    inside = _PACKAGE / "_shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def find_config(name: str) -> Path:
    """Return the file of an experiment: a path, or the name of one that icl brings along.

    Raises:
        IclError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    brought = {file.stem: file for file in sorted(shipped("configs").glob("*.yaml"))}
    if name in brought:
        return brought[name]
    hint = did_you_mean(path.stem, brought)
    raise IclError(f"There is no experiment file {name!r}.{hint}")

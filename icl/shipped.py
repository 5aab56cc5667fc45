"""Files that icl brings along: task definitions and experiments."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return a folder of files that icl brings along: ``tasks`` or ``configs``.

    In a wheel they lie inside the package, in a working copy beside it.
    """
    inside = _PACKAGE / "_shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder

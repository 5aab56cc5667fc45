"""Files that appear whole or not at all, and folders whose new names outlive a loss of power."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """Name where a file is written before it is moved to its place; nothing stays there."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield draft
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    if sys.platform != "win32":  # a folder cannot be opened there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

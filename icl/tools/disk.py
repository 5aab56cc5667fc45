"""What a folder needs so that a new name in it outlives a loss of power."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    if sys.platform != "win32":  # a folder cannot be opened there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

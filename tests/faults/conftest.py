from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def mount(folder: Path, *options: str) -> None:
    """Mount or change a small disk of its own; skip the test where that is not allowed."""
    if sys.platform != "linux":
        pytest.skip("needs Linux's tmpfs")
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=256k")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)

"""What a run ran on: versions and machine, enough to explain its numbers, nothing private."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from icl.processes.launch import cores
from icl.runs.keys import code_key
from icl.version import __version__

_PACKAGES = (
    "accelerate", "babel", "datasets", "evaluate", "gguf", "numpy", "peft", "safetensors",
    "scikit-learn", "scipy", "tokenizers", "torch", "transformers",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Return versions and machine as JSON values; no user name, host name, path or variable."""
    import torch

    return {
        "icl": __version__,
        "code": code_key(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None

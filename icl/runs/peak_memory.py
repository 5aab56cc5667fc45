"""Peak memory of a stretch of work."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20


class PeakMemory:
    """The most memory held since `reset`: CUDA memory where that is in use, else resident memory.

    Linux lets a process reset its own high-water mark; where that is refused, and elsewhere, the
    reading is the peak since the process began.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._cuda = device.startswith("cuda")

    def reset(self) -> None:
        """Start a new stretch."""
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):  # proc(5): writing 5 resets the peak resident set size.
            Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> float:
        """Return the peak in MiB."""
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated() / _MIB
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        if sys.platform == "win32":
            return 0.0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _MIB if sys.platform == "darwin" else peak / 1024

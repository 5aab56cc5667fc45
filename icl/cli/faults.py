"""Which faults are told in a sentence, instead of as a traceback."""

from __future__ import annotations

import sys

from icl.errors import IclError


def told(error: Exception) -> str | None:
    """Return the sentence for a fault that the user can mend; None for a defect of ours."""
    if isinstance(error, IclError):
        return str(error)
    torch_is_there = "torch" in sys.modules  # only then has it run out of memory
    if torch_is_there or isinstance(error, MemoryError | OSError):
        from icl.models.memory import is_out_of_memory

        if is_out_of_memory(error):
            return (
                "Memory ran out; what was finished is kept: free some, or take a smaller model or"
                " `model.dtype: bfloat16`, and run the same command again."
            )
    return None

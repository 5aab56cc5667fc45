"""How a command ends that was stopped, or met a fault: with a sentence instead of a traceback."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from icl.errors import IclError, one_line
from icl.processes.launch import launched, program
from icl.processes.watch import FAULT, INTERRUPTED
from icl.tools import interrupt
from icl.tools.progress import Format, event, speak, speaks_json


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


@contextmanager
def guarded(form: Format = "text") -> Iterator[None]:
    """End a command that runs something as its user wants to hear of it: stopped, or at fault."""
    speak(form)
    try:
        with interrupt.like_ctrl_c(), warnings.catch_warnings():
            if speaks_json():
                warnings.showwarning = _warned
            yield
    except KeyboardInterrupt:
        _stopped()
    except Exception as error:
        fault = told(error)
        if fault is None or form == "text":
            raise
        event("error", message=one_line(fault))
        sys.exit(FAULT)
    finally:
        speak("text")


def _stopped() -> NoReturn:
    """End after an interrupt; the main process says how to go on."""
    if launched():  # a second signal must not change the code by which the launcher knows
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if os.environ.get("RANK", "0") == "0":
        again = f"{program()} {shlex.join(sys.argv[1:])}"
        elsewhere = launched() and "ICL_PROGRAM" not in os.environ  # a launcher that we do not know
        how = "run the same command again" if elsewhere else again
        if speaks_json():
            event("stopped", command=again)
        else:
            sys.stderr.write(f"icl: stopped; what was finished is kept. To go on: {how}\n")
    sys.exit(INTERRUPTED)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    event("warning", message=str(message))

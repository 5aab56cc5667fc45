"""The launcher behind ``--processes``: starts a group on this machine and sees to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from icl.processes.watch import LOST

# Like this process, the others import nothing from the folder in which the user happens to be.
_ASIDE = Path.cwd().as_posix() not in sys.path and "" not in sys.path
_SAFE = ["-P"] if _ASIDE and sys.version_info >= (3, 11) else []
_POLL = 0.05
_LEFT = 12.0  # seconds that the others have to leave by themselves when one has failed
_TERM = 3.0  # and then to heed a request


def launched() -> bool:
    """Say whether this process is one of a group that somebody has started already."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``python -m icl`` with some arguments in several processes; return the exit code.

    An interrupt is handed on to all. When one process fails or is killed, the others are given a
    few seconds to leave and are then ended.

    Args:
        arguments: of the command line.
        count: how many processes.

    Returns:
        0, or the first exit code that is not; 1 where a process was killed by a signal.
    """
    group = [_start(arguments, index, count, port) for port in [_port()] for index in range(count)]

    def hand_on(number: int, frame: FrameType | None) -> None:
        for process in group:
            if process.poll() is None:
                process.send_signal(number)

    before = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(group)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in group:
            if process.poll() is None:
                process.kill()
            process.wait()


def _start(arguments: Sequence[str], index: int, count: int, port: int) -> subprocess.Popen[bytes]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores // count)),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count),
        "LOCAL_RANK": str(index),
        "ICL_PARENT": str(os.getpid()),
    }
    # A session of its own: the terminal's Ctrl-C comes to the launcher only, which hands it on.
    command = [sys.executable, *_SAFE, "-m", "icl", *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _wait(group: Sequence[subprocess.Popen[bytes]]) -> int:
    first: tuple[int, int] | None = None  # index and exit code of the first that failed
    since = 0.0
    while any(process.poll() is None for process in group):
        for index, process in enumerate(group):
            if first is None and process.poll():
                first, since = (index, process.returncode), time.monotonic()
                if process.returncode < 0:
                    _tell(index, len(group), -process.returncode)
        if first is not None:
            spent = time.monotonic() - since
            interrupted = first[1] == 130
            if spent > _LEFT + _TERM and not interrupted:
                for process in group:
                    process.kill()
            elif spent > _LEFT and not interrupted:
                for process in group:
                    process.terminate()
        time.sleep(_POLL)
    codes = [process.returncode for process in group] if first is None else [first[1]]
    worst = next((code for code in codes if code), 0)
    return LOST if worst < 0 else worst


def _tell(index: int, count: int, number: int) -> None:
    name = signal.Signals(number).name
    why = " (too little memory?)" if number == signal.SIGKILL else ""
    sys.stderr.write(
        f"icl: process {index} of {count} was ended by {name}{why}, so this run stops; what it"
        " recorded is kept: run the same command again to go on, with any number of processes.\n"
    )
    sys.stderr.flush()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

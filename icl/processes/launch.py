"""The launcher behind ``--processes``: starts a group on this machine and sees to its end."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from icl.processes.watch import GRACE, INTERRUPTED, JOINED, LOST, stops
from icl.tools.interrupt import ASKING, handled
from icl.tools.progress import note

# Like this process, the others import nothing from the folder in which the user happens to be.
_ASIDE = Path.cwd().as_posix() not in sys.path and "" not in sys.path
_SAFE = ["-P"] if _ASIDE and sys.version_info >= (3, 11) else []
_POLL = 0.05
_JOINING = 600.0  # seconds that all have to start and find each other
_LEFT = 12.0  # seconds that the others have to leave by themselves when one has failed
_TERM = 3.0  # and then to heed a request


def launched() -> bool:
    """Say whether this process is one of a group that somebody has started already."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def program() -> str:
    """Return how the user started icl, as a shell takes it: by its script or as a module."""
    told = os.environ.get("ICL_PROGRAM")
    as_module = Path(sys.argv[0]).name == "__main__.py"
    return told or (f"{shlex.quote(sys.executable)} -m icl" if as_module else "icl")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``python -m icl`` with some arguments in several processes; return the exit code.

    An interrupt is handed on to all. When one process fails or is killed, the others are given a
    few seconds to leave and are then ended; a minute after an interrupt, to finish their step, and
    a few seconds after a second one.

    Args:
        arguments: of the command line.
        count: how many processes.

    Returns:
        0, or the first exit code that is not; 1 where a process was killed by a signal.

    Raises:
        KeyboardInterrupt: a process was interrupted before it could say so.
    """
    group: list[subprocess.Popen[bytes]] = []
    asked: list[float] = []  # when the user asked to stop

    def hand_on(number: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())
        _each(group, signal.Signals(number))

    try:
        with handled(ASKING, hand_on), tempfile.NamedTemporaryFile(prefix="icl-") as joined:
            port = _port()
            for index in range(count):
                group.append(_start(arguments, index, count, port, joined.name))
            return _wait(group, asked, Path(joined.name))
    finally:
        for process in group:
            if process.poll() is None:
                process.kill()
            process.wait()


def _start(
    arguments: Sequence[str], index: int, count: int, port: int, joined: str
) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores() // count)),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count),
        "LOCAL_RANK": str(index),
        "ICL_PARENT": str(os.getpid()),
        "ICL_PROGRAM": program(),
        JOINED: joined,
    }
    # A session of its own: the terminal's Ctrl-C comes to the launcher only, which hands it on.
    command = [sys.executable, *_SAFE, "-m", "icl", *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _wait(group: Sequence[subprocess.Popen[bytes]], asked: Sequence[float], joined: Path) -> int:
    first: tuple[int, int] | None = None  # index and exit code of the first that failed
    since, began, ended = 0.0, time.monotonic(), False
    while any(process.poll() is None for process in group):
        for index, process in enumerate(group):
            if first is None and process.poll():
                first, since = (index, process.returncode), time.monotonic()
                ours = ended or (asked and -process.returncode in ASKING)
                if process.returncode < 0 and not ours:
                    _tell(index, len(group), -process.returncode)
        now = time.monotonic()
        apart = len(group) - joined.stat().st_size  # each has written a byte
        # One that waits for the others to come up can hear no signal.
        enough = asked[1:2] if not apart else asked[:1]
        if enough and now - enough[0] > _LEFT:
            ended = True
            _each(group, signal.SIGKILL)
        elif apart and first is None and now - began > _JOINING:
            note(stops(f"{apart} of {len(group)} processes did not come up"), "error")
            first, since = (0, LOST), now
            _each(group, signal.SIGKILL)
        elif first is not None:
            obeys = bool(asked) or first[1] == INTERRUPTED
            if now - since > (GRACE if obeys else _TERM) + _LEFT:
                _each(group, signal.SIGKILL)
            elif now - since > _LEFT and not obeys:
                _each(group, signal.SIGTERM)
        time.sleep(_POLL)
    codes = [process.returncode for process in group] if first is None else [first[1]]
    worst = next((code for code in codes if code), 0)
    if worst == INTERRUPTED or (asked and worst < 0):
        if group[0].returncode == INTERRUPTED:  # process 0 has said so
            return INTERRUPTED
        raise KeyboardInterrupt
    return LOST if worst < 0 else worst


def _each(group: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in group:
        if process.poll() is None:
            process.send_signal(number)


def _tell(index: int, count: int, number: int) -> None:
    name = signal.Signals(number).name
    why = " (too little memory?)" if number == signal.SIGKILL else ""
    note(stops(f"process {index} of {count} was ended by {name}{why}"), "error")


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

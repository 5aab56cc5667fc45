"""A launcher that is killed takes its processes along: nobody could stop them any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked

PROGRAM = """
import os, sys, time
from pathlib import Path
from icl.processes.group import connect

with connect(cpu=True) as processes:
    place = Path(sys.argv[1]) / f"{processes.index}"
    place.with_suffix(".new").write_text(str(os.getpid()))
    place.with_suffix(".new").rename(place)
    time.sleep(600)
"""


def runs(process: int) -> bool:
    """Say whether a process lives; one that waits for its parent to look at it does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_processes_end_when_torchrun_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--master-port", forked.free_port(), str(program), str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = tmp_path / "told"
    with told.open("w") as stream:
        launcher = subprocess.Popen(command, env=environment, stderr=stream)
    places = [tmp_path / "0", tmp_path / "1"]
    try:
        until = time.monotonic() + 120
        while not all(place.exists() for place in places) and time.monotonic() < until:
            assert launcher.poll() is None, told.read_text()
            time.sleep(0.1)
        members = [int(place.read_text()) for place in places]
    finally:
        launcher.kill()
        launcher.wait()
    until = time.monotonic() + 60
    while any(map(runs, members)) and time.monotonic() < until:
        time.sleep(0.1)
    left = [member for member in members if runs(member)]
    for member in left:
        os.kill(member, signal.SIGKILL)
    assert not left
    assert "the process that started this run's processes was killed" in told.read_text()

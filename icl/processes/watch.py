"""The watch over a group: who is alive, why somebody left, and an end for those who would wait."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.tools import interrupt
from icl.tools.progress import note

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

PATIENCE = 40.0  # seconds without a sign of life after which a process is taken for lost
GRACE = 60.0  # seconds that an interrupted process has to finish its step
_BEAT = 1.0
JOINED = "ICL_JOINED"  # the launcher's file, to which each that has joined adds a byte
_PARENT = "ICL_PARENT"  # the launcher's process id, see `icl.processes.launch`
FAULT, INTERRUPTED, LOST = 2, 130, 1  # exit codes


class Watch:
    """A thread that shows the others a sign of life and looks for theirs.

    All signs go through a small store that process 0 serves. Process 0 looks at everybody, the
    others at process 0 and at the verdict: the first reason for which a process left early. When
    a verdict falls, those who are blocked in a collective operation that can never end are ended
    here; all that counts is on the disk already. A second thread ends this process where the first
    one waits for a store that no longer answers.
    """

    def __init__(self, store: TCPStore, index: int, count: int) -> None:
        self._store = store
        self._lock = threading.Lock()  # the store's calls wait for one another
        self._index = index
        self._count = count
        self._parent = _launcher()
        self._over = threading.Event()
        self._quiet = 0.0  # seconds since the store last answered
        self._thread = threading.Thread(target=self._run, name="icl-watch", daemon=True)
        self._timer = threading.Thread(target=self._time, name="icl-timer", daemon=True)

    def start(self) -> None:
        """Begin to watch, and tell the launcher that this process has joined."""
        if os.environ.get(JOINED):
            with Path(os.environ[JOINED]).open("ab") as file:
                file.write(b".")
        self._thread.start()
        if self._index:  # the store of process 0 is its own
            self._timer.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()
        self._thread.join(2 * _BEAT)

    def first_to(self, event: str) -> bool:
        """Say whether this process is the first of the group to report an event."""
        return self.arrived(event) == 1

    def arrived(self, event: str, *, count: bool = True) -> int:
        """Report an event and return how many have; with ``count=False`` only look."""
        with self._lock:
            return int(self._store.add(event, 1 if count else 0))

    def decide(self, question: str, answer: str) -> str:
        """Give an answer that holds for the whole group unless one was given; return what holds."""
        with self._lock:
            return bytes(self._store.compare_set(question, "", answer)).decode()

    def decided(self, question: str) -> str:
        """Return the answer that holds, or nothing where none was given yet."""
        with self._lock:
            if not self._store.check([question]):
                return ""
            return bytes(self._store.get(question)).decode()

    def tell(self, kind: str, told: str, code: int) -> bool:
        """Give the reason for leaving early; say whether it is this process that tells the user.

        The first reason is the group's verdict, and the one who gave it never obeys it, so it
        lives to tell it. Whoever comes later with the same words is silent.
        """
        if self.first_to("verdict/given"):
            verdict = {"kind": kind, "by": self._index, "told": told, "code": code}
            with self._lock:
                self._store.set("verdict", json.dumps(verdict))
            return True
        for _ in range(20):  # the other may be between its claim and its words
            given = self.verdict()
            if given is not None:
                return bool(given["told"] != told) and self.first_to(f"told/{told}")
            time.sleep(0.1)
        return True

    def verdict(self) -> dict[str, Any] | None:
        """Return the first reason for which a process left early, if any has."""
        with self._lock:
            if not self._store.check(["verdict"]):
                return None
            found: dict[str, Any] = json.loads(self._store.get("verdict"))
            return found

    def _run(self) -> None:
        beats = dict.fromkeys(range(self._count), (0, 0.0))
        for passed in self._beats():
            if self._parent and os.getppid() != self._parent:
                self._orphaned()
            try:
                self.arrived(f"beat/{self._index}")
                verdict = self.verdict()
                if verdict is None and self._index == 0:
                    self._look(beats, passed)
                self._quiet = 0.0
            except Exception as error:
                # The store went away with process 0, or its machine no longer answers.
                self._over.wait(2 * _BEAT)  # unless that is the regular end
                if not self._over.is_set():
                    _end(lost(0, self._count, str(error)), LOST)
                return
            if verdict is not None and verdict["by"] != self._index:
                self._obey(verdict)
                return

    def _beats(self) -> Iterator[float]:
        """Wait a beat, again and again; yield the seconds for which this process was at work.

        A process that was stopped and goes on must not take the pause for the others' silence.
        """
        last = time.monotonic()
        while not self._over.wait(_BEAT):
            now = time.monotonic()
            yield min(now - last, 2 * _BEAT)
            last = now

    def _time(self) -> None:
        """End where the store does not answer: process 0, which serves it, hangs."""
        for passed in self._beats():
            self._quiet += passed
            if self._quiet > PATIENCE:
                _end(lost(0, self._count, f"no sign of life for {PATIENCE:.0f} s"), LOST)

    def _orphaned(self) -> None:
        """End: the launcher was killed, and nobody waits for this run or could stop it any more."""
        told = (
            "the process that started this run's processes was killed, so they stop; what they"
            " recorded is kept: run the same command again to go on."
        )
        try:
            _end(told if self._index == 0 else "", LOST)
        finally:  # the launcher held the other end of the standard streams, perhaps
            os._exit(LOST)

    def _look(self, beats: dict[int, tuple[int, float]], passed: float) -> None:
        for other, (known, quiet) in beats.items():
            beat = self.arrived(f"beat/{other}", count=False)
            gone = self.arrived("left/" + str(other), count=False) > 0
            beats[other] = (beat, 0.0 if beat != known or gone else quiet + passed)
            if beats[other][1] > PATIENCE:
                told = lost(other, self._count, f"no sign of life for {PATIENCE:.0f} s")
                if self.tell("lost", told, LOST):
                    note(told, "error")
                self._over.wait(3 * _BEAT)  # so that the others read it while the store is there
                _end("", LOST)

    def _obey(self, verdict: dict[str, Any]) -> None:
        """Leave as another did: at once after a fault, after this step where it was interrupted."""
        if verdict["kind"] == "interrupted":
            interrupt.ask()
            self._over.wait(GRACE)
        else:
            # A process that met the same fault may be about to tell it itself.
            self._over.wait(2 * _BEAT)
        if self._over.is_set():
            return
        try:
            self.arrived(f"left/{self._index}")
        finally:
            _end("", int(verdict["code"]))


def _launcher() -> int:
    """Return the process that started this one and waits for it; 0 where it need not wait.

    Processes that a script started by hand may outlive it.
    """
    if os.environ.get(_PARENT):
        return int(os.environ[_PARENT])
    return os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else 0


def lost(index: int, count: int, why: str) -> str:
    """Say that a process of a group is gone, and what to do."""
    reason = " ".join(why.split())[:120].rstrip(".")
    return stops(f"process {index} of {count} was lost ({reason})")


def stops(what: str) -> str:
    """Say that something ends a run of several processes, and what to do."""
    return (
        f"{what}, so this run stops; what it recorded is kept: run the same command again to go on,"
        " with any number of processes."
    )


def _end(told: str, code: int) -> None:
    if told:
        note(told, "error")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

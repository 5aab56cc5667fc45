"""Real processes that start quickly: forked from a server that has imported what they need.

The server computes the hash of the source files once, so that an edit to them in the middle of a
test cannot change the keys of records.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.process
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from icl.runs.keys import code_key

_PRELOADED = [
    "tests.forked",
    "accelerate",
    "icl.models.loading.load",
    "icl.training.trainer",
    "icl.learners.embedding.base",
    "icl.learners.embedding.finetuning",
    "icl.learners.prompting.in_context",
    "icl.learners.embedding.linear_probe",
    "icl.learners.embedding.prototypes",
    "icl.learners.gradient.meta_learner",
    "tests.evaluation.small_run",
    "tests.tiny",
]
code_key()

Child = multiprocessing.process.BaseProcess


def start(work: Callable[..., None], *arguments: Any) -> Child:
    """Start a function of a test module in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_call, args=(work.__module__, work.__name__, arguments))
    process.start()
    return process


def start_group(count: int, work: Callable[..., None], *arguments: Any) -> list[Child]:
    """Start a function in so many processes that `icl.processes.connect` joins to a group."""
    port = free_port()
    return [start(_member, index, count, port, work, arguments) for index in range(count)]


def free_port() -> str:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def finish(group: Sequence[Child], within: float = 60.0) -> list[int]:
    """Wait for processes to end and return their exit codes; those that do not are killed."""
    until = time.monotonic() + within
    for process in group:
        process.join(max(0.0, until - time.monotonic()))
    slow = [process for process in group if process.is_alive()]
    for process in slow:
        process.kill()
        process.join()
    assert not slow, f"{len(slow)} process(es) did not end within {within} s"
    return [process.exitcode or 0 for process in group]


def _call(module: str, name: str, arguments: Sequence[Any]) -> None:
    getattr(importlib.import_module(module), name)(*arguments)


def _member(
    index: int, count: int, port: str, work: Callable[..., None], arguments: Sequence[Any]
) -> None:
    os.environ |= {
        "WORLD_SIZE": str(count), "RANK": str(index), "LOCAL_RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    work(*arguments)

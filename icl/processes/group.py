"""`Processes`: the members of a group as a learner or a runner sees them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from icl.errors import IclError
from icl.processes.settings import check_settings
from icl.tools import interrupt

if TYPE_CHECKING:
    from torch import Tensor

    from icl.processes.watch import Watch

T = TypeVar("T")

_RENDEZVOUS = timedelta(minutes=30)  # for all processes to come up, and for one exchange
_LEAVING = 90.0  # seconds that process 0 serves the others' last signs of life


class Processes:
    """The processes that share a run; `ALONE` is a group of one, which costs nothing.

    Work is dealt by index: piece i belongs to process ``i % count``. What is exchanged is little:
    JSON, checkpoints, and the gradients of adapters and heads. Sums are taken in the order of the
    pieces, on one process each part, so that a result depends on no timing.

    Attributes:
        index: this process's place, from 0; process 0 is the main one.
        count: how many there are.
        neighbours: how many of them run on this machine.
        device: where this process's tensors go, ``cpu`` or ``cuda:<n>``.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        *,
        neighbours: int = 1,
        device: str = "cpu",
        watch: Watch | None = None,
    ) -> None:
        self.index = index
        self.count = count
        self.neighbours = neighbours
        self.device = device
        self._watch = watch
        self._meetings = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes shared files and speaks to the user."""
        return self.index == 0

    def share(self, pieces: Sequence[T]) -> Sequence[T]:
        """Return the pieces that are this process's own."""
        return pieces[self.index :: self.count]

    def on_main(self, work: Callable[[], T]) -> T:
        """Let the main process do something and tell all the result, a JSON value.

        A failure of the main process ends the others, see `connect`.
        """
        if self.count == 1:
            return work()
        value = work() if self.main else None
        self.meet()
        told: T = json.loads(self.broadcast(json.dumps(value).encode() if self.main else b""))
        return told

    def meet(self) -> None:
        """Wait until every process has come here, however long that takes.

        Raises:
            KeyboardInterrupt: the run was asked to stop.
            IclError: the main process was lost.
        """
        if self._watch is None:
            return
        self._meetings += 1
        name, wait = f"meeting/{self._meetings}", 0.001
        # All go on or all stop: one that went on alone would wait for the others in vain.
        decision = f"{name}/decision"
        try:
            complete = self._watch.arrived(name) == self.count
            held = self._watch.decide(decision, "go") if complete else ""
            while not held:
                if interrupt.asked():
                    held = self._watch.decide(decision, "stop")
                    break
                time.sleep(wait)
                wait = min(2 * wait, 0.1)
                held = self._watch.decided(decision)
            if held == "stop":
                raise KeyboardInterrupt
        except RuntimeError as error:  # the store went away with the main process
            from icl.processes.watch import lost

            raise IclError(lost(0, self.count, "its connection closed")) from error

    def broadcast(self, content: bytes) -> bytes:
        """Return the main process's bytes; what the others give is not looked at."""
        if self.count == 1:
            return content
        import torch
        from torch import distributed

        length = torch.tensor([len(content) if self.main else 0], device=self.device)
        self._exchange(lambda: distributed.broadcast(length, 0))
        size = int(length)
        if size == 0:
            return b""
        if self.main:
            payload = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self.device)
        else:
            payload = torch.empty(size, dtype=torch.uint8, device=self.device)
        self._exchange(lambda: distributed.broadcast(payload, 0))
        return payload.cpu().numpy().tobytes()

    def gather(self, value: Any) -> list[Any]:
        """Return every process's JSON value, in their order, to all of them."""
        if self.count == 1:
            return [value]
        import torch
        from torch import distributed

        content = json.dumps(value).encode()
        own = torch.tensor([len(content)], device=self.device)
        lengths = [torch.zeros_like(own) for _ in range(self.count)]
        self._exchange(lambda: distributed.all_gather(lengths, own))
        size = max(int(length) for length in lengths)
        payload = torch.zeros(size, dtype=torch.uint8, device=self.device)
        payload[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        parts = [torch.empty_like(payload) for _ in range(self.count)]
        self._exchange(lambda: distributed.all_gather(parts, payload))
        return [
            json.loads(part[: int(length)].cpu().numpy().tobytes())
            for part, length in zip(parts, lengths, strict=True)
        ]

    def sum_pieces(self, own: Tensor, pieces: int) -> Tensor:
        """Add up vectors that are dealt by index, in the order of their indices.

        Each process adds up one part of the vectors and hands it to all, so that about twice a
        vector's size goes over each process's wire, whatever their number (for one vector each).

        Args:
            own: this process's vectors, shape (own pieces, size): piece ``index + i * count`` is
                row i.
            pieces: how many vectors there are in all.

        Returns:
            The sum, shape (size,), the same bits on every process.
        """
        import torch
        from torch import distributed

        size = own.shape[1]
        rows = -(-pieces // self.count)
        part = -(-size // self.count)
        sent = torch.zeros(self.count, rows, part, dtype=own.dtype, device=self.device)
        wide = torch.zeros(rows, self.count * part, dtype=own.dtype, device=self.device)
        wide[: own.shape[0], :size] = own
        sent.copy_(wide.view(rows, self.count, part).transpose(0, 1))
        received = torch.empty_like(sent)
        self._exchange(lambda: distributed.all_to_all_single(received, sent))
        total = torch.zeros(part, dtype=own.dtype, device=self.device)
        for piece in range(pieces):
            total += received[piece % self.count, piece // self.count]
        parts = [torch.empty_like(total) for _ in range(self.count)]
        self._exchange(lambda: distributed.all_gather(parts, total))
        return torch.cat(parts)[:size].to(own.device)

    def _exchange(self, call: Callable[[], Any]) -> None:
        """Make a collective call; where a peer is gone, say so in a sentence."""
        try:
            call()
        except RuntimeError as error:
            from icl.processes.watch import lost

            for _ in range(20):  # the one that left may have given its reason; its word goes first
                try:
                    verdict = None if self._watch is None else self._watch.verdict()
                except Exception:
                    break
                if verdict is not None:
                    if verdict["kind"] == "interrupted":
                        raise KeyboardInterrupt from error
                    raise IclError(verdict["told"]) from error
                time.sleep(0.1)
            other = 0 if self.index else 1
            who = other if self.count == 2 else -1
            told = lost(who, self.count, "its connection closed")
            raise IclError(told.replace("process -1 of", "one process of")) from error


ALONE = Processes()


@contextmanager
def connect(*, cpu: bool = False) -> Iterator[Processes]:
    """Join the group that a launcher has started this process for; `ALONE` where none has.

    ``icl run --processes``, ``accelerate launch``, ``torchrun`` and MPI are understood. On CUDA
    machines every process gets a GPU of its own and talks through NCCL, elsewhere through gloo.

    A block that ends by an error or an interrupt ends the block on all processes, within seconds;
    a process that is killed or hangs ends the others within a minute. An `IclError` that several
    processes meet is raised on one of them, the others leave by `SystemExit`.

    Args:
        cpu: keep off the GPUs.

    Raises:
        IclError: the processes do not find each other, outnumber the GPUs, or were launched with
            settings that cannot hold.
    """
    check_settings()
    if _world() == 1:
        yield ALONE
        return
    from icl.processes import watch as watching

    processes, watch = _join(cpu)
    watch.start()
    try:
        yield processes
        processes.meet()
    except KeyboardInterrupt:
        _leave(processes, watch, "interrupted", "interrupted", watching.INTERRUPTED)
        raise
    except IclError as error:
        first = _leave(processes, watch, "fault", str(error), watching.FAULT)
        if not first:
            raise SystemExit(watching.FAULT) from None
        raise
    except BaseException as error:
        told = f"process {processes.index} of {processes.count} failed: {type(error).__name__}."
        _leave(processes, watch, "fault", told, watching.LOST)
        raise
    else:
        _leave(processes, watch)


def _world() -> int:
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), 1)


def _join(cpu: bool) -> tuple[Processes, Watch]:
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from icl.processes.watch import Watch

    cpu = cpu or not torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not cpu and local > torch.cuda.device_count():
        raise IclError(
            f"{local} processes share this machine, which has {torch.cuda.device_count()} GPU(s);"
            " start at most one process for each GPU."
        )
    threads = torch.get_num_threads()
    try:
        state = PartialState(cpu=cpu, timeout=_RENDEZVOUS)
        torch.set_num_threads(threads)
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        index, count = state.process_index, state.num_processes
        plain = Processes(index, count, device=str(state.device))
        store = None
        if index == 0:
            store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        port = int(plain.broadcast(str(store.port if store else 0).encode()))
        if store is None:
            store = TCPStore(
                host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30)
            )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise IclError(
            f"The processes do not find each other: {reason}; check MASTER_ADDR, MASTER_PORT and"
            " that every process was started."
        ) from error
    watch = Watch(store, index, count)
    device = str(state.device)
    return Processes(index, count, neighbours=local, device=device, watch=watch), watch


def _leave(
    processes: Processes, watch: Watch, end: str = "", told: str = "", code: int = 0
) -> bool:
    """Leave the group, with a reason if before time; say whether no other tells this reason.

    Process 0 serves the store and goes last.
    """
    first = True
    try:
        if end:
            first = watch.tell(end, told, code)
        watch.arrived(f"left/{processes.index}")
        until = time.monotonic() + (_LEAVING if end in ("", "interrupted") else 10.0)
        while processes.main and time.monotonic() < until:
            left = [watch.arrived(f"left/{i}", count=False) for i in range(processes.count)]
            if all(left):
                break
            time.sleep(0.05)
    except Exception:  # the store is gone, and with it everybody to tell
        first = True
    watch.stop()
    if not end:
        from torch import distributed

        distributed.destroy_process_group()
    return first

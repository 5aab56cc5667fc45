"""What the members of a group do in these tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from icl.episodes import EpisodeSampler
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.learners.registry import make
from icl.processes import connect, watch
from icl.runs.folder import RunFolder
from icl.training import TrainingConfig
from icl.training.outer import outer_gradient, pieces
from icl.training.trainer import MetaTrainer
from tests import tiny
from tests.episodes.toy_families import regular_family
from tests.evaluation import small_run

SMALL: dict[str, Any] = {
    "split": "test", "steps": 4, "meta_batch": 2, "shots": 2, "queries": 4,
    "learning_rate": 0.02, "checkpoint_every": 1,
}  # fmt: skip


PARAMS: dict[str, dict[str, Any]] = {
    "meta-prototypes": {"tune": "lora", "rank": 2},
    "multitask": {},
    "snail": {},
}


def learner(method: str, dtype: torch.dtype = torch.float32) -> tuple[MetaLearner, Any]:
    backbone = tiny.backbone()
    backbone.model.to(dtype)
    made = make(method, PARAMS.get(method, {"inner_steps": 1, "rank": 2}), backbone)
    assert isinstance(made, MetaLearner)
    return made, backbone


def sampler() -> EpisodeSampler:
    return EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)


def errors_to(folder: Path) -> None:
    """Send this process's standard error to a file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"stderr.{os.environ.get('RANK', '0')}"
    file = path.open("w", buffering=1)
    os.dup2(file.fileno(), 2)
    sys.stderr = file


def sums(folder: Path) -> None:
    with connect() as group:
        for count in (1, 2, 3, 4, 7):
            vectors = _vectors(count)
            total = group.sum_pieces(vectors[group.index :: group.count], count)
            torch.save(total, folder / f"{count}.{group.index}.pt")
        assert group.broadcast(b"main" if group.main else b"other") == b"main"
        assert group.broadcast(b"") == b""
        assert group.gather({"i": group.index}) == [{"i": i} for i in range(group.count)]
        assert group.on_main(lambda: [group.index]) == [0]


def _vectors(count: int) -> torch.Tensor:
    scale = 10.0 ** torch.arange(count)[:, None]
    return torch.randn(count, 11, generator=torch.Generator().manual_seed(count)) * scale


def gradients(folder: Path, batches: Mapping[str, int], packed: bool, double: bool) -> None:
    """Save the meta-gradient of one step of some methods; packed, as a GPU would run it."""
    with connect() as group:
        for method, batch in batches.items():
            made, backbone = learner(method, torch.float64 if double else torch.float32)
            drawn = sampler()
            parameters = made.trainable_parameters()
            outer_gradient(
                pieces(batch, None, group.count, joint=made.joins_episodes, packed=packed),
                lambda i, drawn=drawn: drawn.episode(i, 2),
                made.meta_loss,
                parameters,
                group,
                seed="step",
                tokens=lambda backbone=backbone: backbone.meter.computed_tokens,
                stop=lambda: False,
            )
            whole = [
                (torch.zeros_like(v) if v.grad is None else v.grad).flatten()
                for _, v in sorted(parameters.items())
            ]
            torch.save(torch.cat(whole), folder / f"{method}.{group.count}.{group.index}.pt")


def telling(work: Callable[[], None]) -> None:
    """Do something as the command line does: a fault is told in one sentence."""
    try:
        work()
    except IclError as error:
        sys.stderr.write(f"icl: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def train(
    folder: Path, die: int = -1, how: int = 0, at: int = 2, pause: float = 0.0, **changes: Any
) -> None:
    """Meta-train; process `die` gets the signal `how` at a step; all rest after each."""
    errors_to(folder)
    telling(lambda: _train(folder, die, how, at, pause, **changes))


def _train(folder: Path, die: int, how: int, at: int, pause: float, **changes: Any) -> None:
    watch.PATIENCE = 4.0
    with connect() as group:
        made, backbone = learner("fomaml")

        def progress(step: int, steps: int, loss: float) -> None:
            time.sleep(pause)
            if group.index == die and step == at:
                os.kill(os.getpid(), how)

        from icl.tools import interrupt

        config = TrainingConfig(**SMALL | changes)
        with interrupt.at_the_next_step():
            trained = MetaTrainer(made, backbone, sampler(), config, folder / "meta", "a", group)
            summary = trained.fit(progress)
        (folder / f"digest.{group.index}").write_text(summary.digest)


def stuck(folder: Path, index: int) -> None:
    """A process is stopped, the others wait for it in a collective call."""
    train(folder, index, signal.SIGSTOP)


def meetings(folder: Path) -> None:
    """All meet again and again until one is asked to stop while another may be ahead of it."""
    from icl.tools import interrupt

    def work() -> None:
        with connect() as group, interrupt.at_the_next_step(say=False):
            for number in range(10_000):
                if group.index == number % group.count == 1 and number > 20:
                    threading.Timer(0.001, interrupt.ask).start()
                group.meet()
                group.gather(number)
                (folder / f"last.{group.index}").write_text(str(number))

    errors_to(folder)
    telling(work)


def run(folder: Path, episodes: int, names: tuple[str, ...] = tuple(small_run.LEARNERS)) -> None:
    """Run learners on a toy family."""
    learners = {name: small_run.LEARNERS[name] for name in names}
    with connect() as group:
        small_run.run(folder, tiny.backbone, learners, count=episodes, processes=group)


def experiment(path: Path, out: Path) -> None:
    """Run an experiment's file."""
    from icl.experiments.config import load_config
    from icl.experiments.experiment import run_experiment

    with connect() as group:
        run_experiment(load_config(path), out, command="", processes=group)


def all_fail(folder: Path) -> None:
    def work() -> None:
        with connect() as group:
            group.meet()
            raise IclError("the same fault everywhere.")

    errors_to(folder)
    telling(work)


def one_fails(folder: Path) -> None:
    """Process 1 fails while the others wait for it."""

    def work() -> None:
        with connect() as group:
            if group.index == 1:
                raise IclError("a fault of one.")
            group.gather("I wait")

    errors_to(folder)
    telling(work)


def main_is_killed(folder: Path) -> None:
    """The others wait for the main process, which does not come."""

    def work() -> None:
        with connect() as group:
            group.meet()
            if group.main:
                os.kill(os.getpid(), signal.SIGKILL)
            group.meet()

    errors_to(folder)
    telling(work)


def held(folder: Path) -> None:
    """The main process finds the folder in use."""

    def work() -> None:
        with connect() as group:
            if group.main:
                with RunFolder(folder / "run").locked():
                    pass
            group.meet()

    errors_to(folder)
    telling(work)

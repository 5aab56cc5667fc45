"""A meta-training of a few numbers, and processes that die in the midst of it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.learners.base import MetaLearner, Predictor
from icl.models.meter import Meter
from icl.training import TrainingConfig
from icl.training.trainer import MetaTrainer
from tests.episodes.toy_families import regular_family

STEPS = 240
CONFIG: dict[str, Any] = {
    "split": "test", "steps": STEPS, "meta_batch": 2, "shots": 1, "queries": 2,
    "learning_rate": 0.02, "schedule": "cosine", "checkpoint_every": 2,
    "validation": {"split": "test", "episodes": 2, "every": 20},
}  # fmt: skip


class Says(Predictor):
    """Says the same of every text."""

    def __init__(self, logits: Tensor) -> None:
        self._said = logits.detach().log_softmax(0)

    def log_probs(self, texts: Sequence[Any]) -> Tensor:
        return self._said.expand(len(texts), -1)


class Toy(MetaLearner):
    """Finds a vector that depends on the episodes, with noise from torch's global generator."""

    method = "toy"

    def __init__(self) -> None:
        self.vector = torch.linspace(-1, 1, 300).requires_grad_()
        self.rate = torch.tensor(0.5, requires_grad=True)

    def adapt(self, support: Any, labels: Any) -> Predictor:
        return Says(self.vector[: len(labels)] * self.rate)

    def trainable_parameters(self) -> Mapping[str, Tensor]:
        return {"vector": self.vector, "rate": self.rate}

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        losses = []
        for episode in episodes:
            aim = int(episode.fingerprint[:8], 16) / 2**32
            noise = torch.nn.functional.dropout(torch.ones(300), 0.2)
            losses.append(((self.vector * noise - aim) ** 2).mean() * self.rate.exp())
        return torch.stack(losses).mean(), {"noise": 1.0}


def trainer(folder: Path, **changes: Any) -> tuple[MetaTrainer, Toy]:
    toy = Toy()
    backbone: Any = SimpleNamespace(meter=Meter(), forget=lambda: None, budget=lambda: 1 << 40)
    sampler = EpisodeSampler(regular_family(), "test", ways=2, shots=[1], queries=2)
    config = TrainingConfig(**CONFIG | changes)
    return MetaTrainer(toy, backbone, sampler, config, folder, "toy"), toy


def train(folder: Path, seed: int | None = None) -> None:
    """Meta-train; with a seed the process kills itself inside a write, whole or torn, by lot."""
    if seed is not None:
        _arm(random.Random(seed))
    summary = trainer(folder)[0].fit()
    (folder / "digest").write_text(f"{summary.digest} {summary.first_loss} {summary.last_loss}")


def _arm(lot: random.Random) -> None:
    """Put a bomb at one of the next steps on the way of a file to the disk."""
    left = lot.randrange(1, 16)  # few enough that 50 lives do not suffice to finish
    torn = lot.random()
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def step() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def sync(descriptor: int) -> None:
        if step():
            try:
                os.ftruncate(descriptor, int(torn * os.fstat(descriptor).st_size))
            finally:
                die()
        fsync(descriptor)

    def move(self: Path, target: Any) -> Path:
        if step():
            die()
        moved = replace(self, target)
        if step():
            die()
        return moved

    def remove(self: Path, missing_ok: bool = False) -> None:
        if step():
            die()
        unlink(self, missing_ok=missing_ok)

    os.fsync, Path.replace, Path.unlink = sync, move, remove  # type: ignore[method-assign]

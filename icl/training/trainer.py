"""`MetaTrainer`: the outer loop over episodes, resumable to the bit."""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.models.backbone import Backbone
from icl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from icl.training.config import TrainingConfig
from icl.training.log import TrainingLog
from icl.training.memory import check_memory

_MOST_HALVINGS = 6

Progress = Callable[[int, int, float], None]  # step, steps, loss


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What meta-training cost and where it ended.

    Attributes:
        steps: outer steps.
        episodes: episodes seen.
        seconds: wall-clock time over all starts of the run.
        computed_tokens: token positions through the model forward, in whole passes.
        trained_parameters: meta-parameters.
        first_loss, last_loss: mean meta-loss over the first and last tenth of the steps.
        digest: a hash of the trained meta-parameters.
    """

    steps: int
    episodes: int
    seconds: float
    computed_tokens: int
    trained_parameters: int
    first_loss: float
    last_loss: float
    digest: str


class MetaTrainer:
    """Train a meta-learner on the meta-gradient.

    Step s takes episodes ``s * meta_batch`` to ``(s+1) * meta_batch - 1`` of the sampler, so the
    stream does not depend on interruptions. The state after each checkpoint is complete: a run that
    is killed and started again ends with the same bits, on the CPU. What happened at each step
    stands in the folder's ``log.jsonl``, see `TrainingLog`.
    """

    def __init__(
        self,
        learner: MetaLearner,
        backbone: Backbone,
        sampler: EpisodeSampler,
        config: TrainingConfig,
        folder: Path,
        identity: str,
    ) -> None:
        """Prepare a run.

        Args:
            learner: what is trained, in place.
            backbone: whose meter counts the tokens.
            sampler: the training episodes by index.
            config: the budget.
            folder: where checkpoints and the log go.
            identity: a hash of all that decides the result; other runs' checkpoints are ignored.
        """
        self._learner = learner
        self._backbone = backbone
        self._sampler = sampler
        self._config = config
        self._folder = folder
        self._identity = identity
        self._parameters = dict(learner.trainable_parameters())
        kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.SGD
        self._optimiser: torch.optim.Optimizer = kind(
            self._parameters.values(), lr=config.learning_rate
        )
        self._early = 0 if config.fine_tune is None else config.fine_tune.steps
        self._early_sampler = fine_tuning_sampler(sampler, config)
        self._log = TrainingLog(folder)
        self._losses: list[float] = []
        self._seconds = 0.0
        self._tokens = 0.0
        self._halvings = 0

    def fit(self, progress: Progress = lambda step, steps, loss: None) -> TrainingSummary:
        """Train to the end of the budget, from the newest checkpoint where there is one.

        Raises:
            IclError: the loss or its gradient is not finite (names the step and the episodes) and
                the configuration does not say to go on, or a checkpoint cannot be written.
        """
        step = self._resume()
        self._log.cut(step)
        steps, every = self._early + self._config.steps, self._config.checkpoint_every
        if step == 0:
            check_memory(self._learner, self._backbone, self._episodes(0))
            if self._config.on_divergence == "halve":
                save_checkpoint(self._folder, self._checkpoint(0))
        self._backbone.trunks.clear()
        while step < steps:
            began, tokens = time.perf_counter(), self._backbone.meter.computed_tokens
            faulty = self._step(step)
            if faulty:
                step = self._recover(step, faulty)
                continue
            self._seconds += time.perf_counter() - began
            self._tokens += self._backbone.meter.computed_tokens - tokens
            step += 1
            progress(step, steps, self._losses[-1])
            if step == steps or (every and step % every == 0):
                save_checkpoint(self._folder, self._checkpoint(step))
                self._backbone.trunks.clear()
        return self._summary()

    def _episodes(self, step: int) -> list[Episode]:
        batch = self._config.meta_batch
        early = step < self._early
        sampler = self._early_sampler if early else self._sampler
        first = (step if early else step - self._early) * batch
        return [sampler.episode(i, self._config.shots) for i in range(first, first + batch)]

    def _loss(
        self, step: int, episodes: Sequence[Episode]
    ) -> tuple[torch.Tensor, Mapping[str, float]]:
        if step < self._early:
            return self._learner.fine_tuning_loss(episodes)
        self._learner.at_step(step - self._early, self._config.steps)
        return self._learner.meta_loss(episodes)

    def _step(self, step: int) -> list[Episode]:
        """Take one outer step; return the episodes at fault where it cannot be taken."""
        began = time.perf_counter()
        episodes = self._episodes(step)
        rate = self._rate(step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        size = self._config.tasks_at_once or len(episodes)
        total, metrics = 0.0, dict[str, float]()
        for i in range(0, len(episodes), size):
            some = episodes[i : i + size]
            share = len(some) / len(episodes)
            loss, seen = self._loss(step, some)
            torch.autograd.backward(loss * share)
            total += share * float(loss.detach())
            for name, value in seen.items():
                metrics[name] = metrics.get(name, 0.0) + share * value
        limit = math.inf if self._config.clip_norm is None else self._config.clip_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))
        if not (math.isfinite(total) and math.isfinite(norm)):
            return self._at_fault(step, episodes)
        self._optimiser.step()
        self._losses.append(total)
        self._log.add(
            step=step + 1,
            loss=total,
            gradient_norm=norm,
            learning_rate=rate,
            seconds=round(time.perf_counter() - began, 3),
            **metrics,
        )
        return []

    def _rate(self, step: int) -> float:
        """Return the outer rate at a step: as configured, scheduled, and halved after faults."""
        rate: float = self._config.learning_rate / 2**self._halvings
        if step < self._early or self._config.schedule == "constant":
            return rate
        done = (step - self._early) / self._config.steps
        if self._config.schedule == "linear":
            return rate * (1 - done)
        return rate * (1 + math.cos(math.pi * done)) / 2

    def _at_fault(self, step: int, episodes: list[Episode]) -> list[Episode]:
        """Return the episodes whose own loss or gradient is not finite; all if none is alone."""
        faulty = []
        for episode in episodes:
            loss, _ = self._loss(step, [episode])
            found = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
            whole = [loss, *(g for g in found if g is not None)]
            if not all(bool(value.isfinite().all()) for value in whole):
                faulty.append(episode)
        return faulty or episodes

    def _recover(self, step: int, faulty: list[Episode]) -> int:
        """Go back to the last good checkpoint with half the rate; return the step to go on from.

        Raises:
            IclError: the configuration says to stop, or halving has not helped.
        """
        told = _diverged(step, faulty)
        if self._config.on_divergence == "stop" or self._halvings >= _MOST_HALVINGS:
            raise IclError(told)
        halvings = self._halvings + 1
        back = self._resume()
        self._halvings = halvings
        self._log.cut(back)
        self._log.add(
            step=back,
            event="diverged",
            at=step + 1,
            episodes=[episode.fingerprint for episode in faulty],
            learning_rate=self._rate(back),
        )
        warnings.warn(
            f"{told} Going on from step {back} with half the learning rate.", stacklevel=3
        )
        self._backbone.trunks.clear()
        return back

    def _checkpoint(self, step: int) -> Checkpoint:
        tensors: dict[str, Tensor] = {
            f"parameter/{name}": value for name, value in self._learner.state_dict().items()
        }
        states = self._optimiser.state_dict()["state"]
        for index, name in enumerate(self._parameters):
            for key, value in states.get(index, {}).items():
                if isinstance(value, Tensor):  # plain descent keeps a None
                    tensors[f"adam/{key}/{name}"] = value.cpu()
        metadata = {
            "identity": self._identity,
            "losses": json.dumps(self._losses),
            "seconds": repr(self._seconds),
            "tokens": repr(self._tokens),
            "halvings": str(self._halvings),
        }
        return Checkpoint(step, tensors, metadata)

    def _resume(self) -> int:
        """Load the newest checkpoint of this run; return how many steps are done."""
        saved = load_checkpoint(self._folder, self._identity)
        if saved is None:
            return 0
        self._learner.load_state_dict(
            {
                name.removeprefix("parameter/"): value
                for name, value in saved.tensors.items()
                if name.startswith("parameter/")
            }
        )
        groups = self._optimiser.state_dict()["param_groups"]
        state: dict[int, dict[str, Tensor]] = {}
        for index, name in enumerate(self._parameters):
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = saved.tensors.get(f"adam/{key}/{name}")
                if value is not None:
                    state.setdefault(index, {})[key] = value
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self._losses = json.loads(saved.metadata["losses"])
        self._seconds = float(saved.metadata["seconds"])
        self._tokens = float(saved.metadata["tokens"])
        self._halvings = int(saved.metadata["halvings"])
        return saved.step

    def _summary(self) -> TrainingSummary:
        tenth = max(1, len(self._losses) // 10)
        return TrainingSummary(
            steps=self._early + self._config.steps,
            episodes=(self._early + self._config.steps) * self._config.meta_batch,
            seconds=self._seconds,
            computed_tokens=round(self._tokens),
            trained_parameters=sum(value.numel() for value in self._parameters.values()),
            first_loss=sum(self._losses[:tenth]) / tenth,
            last_loss=sum(self._losses[-tenth:]) / tenth,
            digest=state_digest(self._learner),
        )


def fine_tuning_sampler(sampler: EpisodeSampler, config: TrainingConfig) -> EpisodeSampler:
    """Return the sampler of a fine-tuned start: the training episodes', within one language.

    Raises:
        IclError: the meta-split lacks the language.
    """
    if config.fine_tune is None:
        return sampler
    language = config.fine_tune.language
    return EpisodeSampler(
        sampler.family,
        sampler.split,
        ways=sampler.ways,
        shots=sampler.shots,
        queries=sampler.queries,
        languages=None if language is None else [language],
        composition=sampler.composition,
        near=sampler.near,
        seed=sampler.seed,
    )


def state_digest(learner: MetaLearner) -> str:
    """Return a hash of a meta-learner's parameters: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(learner.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _diverged(step: int, episodes: list[Episode]) -> str:
    names = ", ".join(f"{e.fingerprint} ({e.task}/{e.query_language})" for e in episodes)
    return (
        f"Meta-training diverged at step {step}: the loss or its gradient is not finite on "
        f"episodes {names}; lower `inner_rate` or `learning_rate`."
    )

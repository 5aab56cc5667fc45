"""`MetaTrainer`: the outer loop over episodes, resumable to the bit."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.models.base import Model
from icl.models.memory import is_out_of_memory
from icl.processes import ALONE, Processes
from icl.tools import interrupt
from icl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from icl.training.config import TrainingConfig
from icl.training.log import TrainingLog
from icl.training.memory_needed import check_memory, too_large
from icl.training.outcome import TrainingSummary
from icl.training.outer import Outer, outer_gradient, pieces
from icl.training.samplers import fine_tuning_sampler, validation_sampler
from icl.training.snapshot import Best, State, digest_of, pack, unpack
from icl.training.validation import query_loss

_MOST_HALVINGS = 6

Progress = Callable[[int, int, float], None]  # step, steps, loss


@dataclass(eq=False)
class MetaTrainer:
    """Train a meta-learner on the meta-gradient.

    Step s takes episodes ``s * meta_batch`` to ``(s+1) * meta_batch - 1`` of the sampler, so the
    stream depends on no interruption and on no number of processes. The state after each checkpoint
    is complete: a run that is killed and started again ends with the same bits, on the CPU. What
    happened at each step stands in the folder's ``log.jsonl``, see `TrainingLog`.

    Several processes share a meta-batch (see `outer_gradient`). Each moves its own copy of the
    parameters by the same sum; the main one writes checkpoints and log.

    Attributes:
        learner: what is trained, in place.
        backbone: whose meter counts the tokens.
        sampler: the training episodes by index.
        config: the budget.
        folder: where checkpoints and the log go.
        identity: a hash of all that decides the result; other runs' checkpoints are ignored.
        processes: that share the work; each holds the same learner, backbone and sampler.
        track: is told each line of the log.
        name: of the learner, for messages; by default its method's.
    """

    learner: MetaLearner
    backbone: Model
    sampler: EpisodeSampler
    config: TrainingConfig
    folder: Path
    identity: str
    processes: Processes = ALONE
    track: Callable[[Mapping[str, Any]], None] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        config = self.config
        self._name = self.name or self.learner.method
        self._parameters = dict(self.learner.trainable_parameters())
        kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.SGD
        self._optimiser: torch.optim.Optimizer = kind(
            self._parameters.values(), lr=config.learning_rate
        )
        self._early = 0 if config.fine_tune is None else config.fine_tune.steps
        self._early_sampler = fine_tuning_sampler(self.sampler, config)
        self._validation = validation_sampler(self.sampler, config)
        self._cut = self._pieces(config.meta_batch, joint=self.learner.joins_episodes)
        self._log = TrainingLog(self.folder, self.track, writes=self.processes.main)
        self._state = State()

    def fit(self, progress: Progress = lambda step, steps, loss: None) -> TrainingSummary:
        """Train to the end of the budget, from the newest checkpoint where there is one.

        Raises:
            IclError: the loss or its gradient is not finite (names the step and the episodes) and
                the configuration does not say to go on, memory ran out, a checkpoint cannot be
                written, or another process was lost.
            KeyboardInterrupt: the run was asked to stop; the step was finished and saved.
        """
        devices = {v.device for v in self._parameters.values() if v.device.type == "cuda"}
        try:
            with torch.random.fork_rng(devices):  # random learners are seeded anew for each piece
                return self._fit(progress)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise IclError(too_large(self._name, max(map(len, self._cut)))) from error
            raise

    def _fit(self, progress: Progress) -> TrainingSummary:
        self.backbone.meter.known = self._state.known
        step = self._resume()
        self._log.cut(step)
        steps, every = self._early + self.config.steps, self.config.checkpoint_every
        if step == 0:
            if self.processes.main:
                check_memory(
                    self.learner, self.backbone, [self._episode(0, i) for i in self._cut[0]]
                )
            if self.config.on_divergence == "halve":
                self._save(0)
        meter = self.backbone.meter
        self.backbone.forget()
        while step < steps:
            began = time.perf_counter() + meter.shared.seconds
            found = self._step(step)
            if isinstance(found, list):
                step = self._recover(step, found)
                continue
            self._state.tokens += found.tokens
            step += 1
            self._validate(step, steps)
            self._state.seconds += time.perf_counter() + meter.shared.seconds - began
            progress(step, steps, self._state.losses[-1])
            if step == steps or found.stop or (every and step % every == 0):
                self._save(step)
                self.backbone.forget()
            if found.stop and step < steps:
                raise KeyboardInterrupt
        if self._state.best is not None:
            self.learner.load_state_dict(self._state.best.state)
        return self._summary()

    def _pieces(self, batch: int, *, joint: bool = False) -> list[range]:
        return pieces(
            batch,
            self.config.tasks_at_once,
            self.processes.count,
            joint=joint,
            packed=any(value.device.type != "cpu" for value in self._parameters.values()),
        )

    def _episode(self, step: int, place: int) -> Episode:
        early = step < self._early
        sampler = self._early_sampler if early else self.sampler
        first = (step if early else step - self._early) * self.config.meta_batch
        return sampler.episode(first + place, self.config.shots).posed()

    def _loss(
        self, step: int, episodes: Sequence[Episode]
    ) -> tuple[torch.Tensor, Mapping[str, float]]:
        if step < self._early:
            return self.learner.fine_tuning_loss(episodes)
        self.learner.at_step(step - self._early, self.config.steps)
        return self.learner.meta_loss(episodes)

    def _step(self, step: int) -> Outer | list[Episode]:
        """Take one outer step; return the episodes at fault where it cannot be taken."""
        began = time.perf_counter()
        rate = self._rate(step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        found = outer_gradient(
            self._cut,
            lambda place: self._episode(step, place),
            lambda episodes: self._loss(step, episodes),
            self._parameters,
            self.processes,
            seed=f"{self.identity}/{step}",
            tokens=lambda: self.backbone.meter.tokens,
            stop=interrupt.asked,
        )
        limit = math.inf if self.config.clip_norm is None else self.config.clip_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))
        if not (math.isfinite(found.loss) and math.isfinite(norm)):
            return self._at_fault(step)
        self._optimiser.step()
        self._state.losses.append(found.loss)
        self._log.add(
            step=step + 1,
            loss=found.loss,
            gradient_norm=norm,
            learning_rate=rate,
            seconds=round(time.perf_counter() - began, 3),
            **found.metrics,
        )
        return found

    def _rate(self, step: int) -> float:
        """Return the outer rate at a step: as configured, scheduled, and halved after faults."""
        rate: float = self.config.learning_rate / 2**self._state.halvings
        if step < self._early or self.config.schedule == "constant":
            return rate
        done = (step - self._early) / self.config.steps
        if self.config.schedule == "linear":
            return rate * (1 - done)
        return rate * (1 + math.cos(math.pi * done)) / 2

    def _validate(self, step: int, steps: int) -> None:
        """Look at the validation episodes where it is time, and keep the best state."""
        asked = self.config.validation
        if asked is None or self._validation is None or step <= self._early:
            return
        if step != steps and (step - self._early) % asked.every:
            return
        sampler = self._validation
        found = outer_gradient(
            self._pieces(asked.episodes),
            lambda place: sampler.episode(place, self.config.shots).posed(),
            lambda episodes: (query_loss(self.learner, episodes), {}),
            {},
            self.processes,
            seed=f"{self.identity}/validation",
            tokens=lambda: self.backbone.meter.tokens,
            stop=lambda: False,
        )
        self._state.tokens += found.tokens
        self._log.add(step=step, event="validated", loss=found.loss)
        best = self._state.best
        if math.isfinite(found.loss) and (best is None or found.loss < best.loss):
            self._state.best = Best(step, found.loss, self.learner.state_dict())

    def _at_fault(self, step: int) -> list[Episode]:
        """Return the episodes whose own loss or gradient is not finite; all if none is alone."""
        episodes = [self._episode(step, place) for place in range(self.config.meta_batch)]
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
        told = _diverged(self._name, step, faulty)
        if self.config.on_divergence == "stop" or self._state.halvings >= _MOST_HALVINGS:
            raise IclError(told)
        halvings = self._state.halvings + 1
        back = self._resume()
        self._state.halvings = halvings
        self._log.cut(back)
        self._log.add(
            step=back,
            event="diverged",
            at=step + 1,
            episodes=[episode.fingerprint for episode in faulty],
            learning_rate=self._rate(back),
        )
        if self.processes.main:
            warnings.warn(
                f"{told} Going on from step {back} with half the learning rate.", stacklevel=4
            )
        self.backbone.forget()
        return back

    def _save(self, step: int) -> None:
        """Write a checkpoint, once all processes are seen to hold the same parameters.

        Raises:
            IclError: it cannot be written, or the processes have drifted apart.
        """
        if len(set(self.processes.gather(digest_of(self.learner.state_dict())))) > 1:
            raise IclError(
                f"After step {step} the processes hold different parameters; run on machines that"
                " compute alike, or with fewer processes, to go on from the last checkpoint."
            )
        if self.processes.main:
            save_checkpoint(
                self.folder,
                pack(step, self.learner, self._optimiser, self._state, self.identity),
            )

    def _resume(self) -> int:
        """Load the newest checkpoint of this run, on all processes; return the steps done."""
        main = self.processes.main
        saved = load_checkpoint(self.folder, self.identity) if main else None
        content = b"" if saved is None else saved.to_bytes()
        self.processes.meet()
        content = self.processes.broadcast(content)
        if not content:
            return 0
        saved = Checkpoint.from_bytes(content)
        self._state = unpack(saved, self.learner, self._optimiser)
        self.backbone.meter.known = self._state.known
        return saved.step

    def _summary(self) -> TrainingSummary:
        losses = self._state.losses
        tenth = max(1, len(losses) // 10)
        return TrainingSummary(
            steps=self._early + self.config.steps,
            episodes=(self._early + self.config.steps) * self.config.meta_batch,
            seconds=self._state.seconds,
            computed_tokens=round(self._state.tokens),
            trained_parameters=sum(value.numel() for value in self._parameters.values()),
            first_loss=sum(losses[:tenth]) / tenth,
            last_loss=sum(losses[-tenth:]) / tenth,
            digest=digest_of(self.learner.state_dict()),
        )


def _diverged(name: str, step: int, episodes: list[Episode]) -> str:
    names = ", ".join(f"{e.fingerprint} ({e.task}/{e.query_language})" for e in episodes)
    return (
        f"Meta-training of {name!r} diverged at step {step}: the loss or its gradient is not"
        f" finite on episodes {names}; lower `inner_rate` or `learning_rate`."
    )

"""`MetaTrainer`: the outer loop over episodes, resumable to the bit."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
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
    """Train a meta-learner by Adam on the meta-gradient.

    Step s takes episodes ``s * meta_batch`` to ``(s+1) * meta_batch - 1`` of the sampler, so the
    stream does not depend on interruptions. The state after each checkpoint is complete: a run that
    is killed and started again ends with the same bits, on the CPU.
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
            folder: where checkpoints go.
            identity: a hash of all that decides the result; other runs' checkpoints are ignored.
        """
        self._learner = learner
        self._backbone = backbone
        self._sampler = sampler
        self._config = config
        self._folder = folder
        self._identity = identity
        self._parameters = dict(learner.trainable_parameters())
        self._optimiser = torch.optim.Adam(self._parameters.values(), lr=config.learning_rate)
        self._losses: list[float] = []
        self._seconds = 0.0
        self._tokens = 0.0

    def fit(self, progress: Progress = lambda step, steps, loss: None) -> TrainingSummary:
        """Train to the end of the budget, from the newest checkpoint where there is one.

        Raises:
            IclError: the loss or its gradient is not finite (names the step and the episodes), or
                a checkpoint cannot be written.
        """
        first = self._resume()
        steps, every = self._config.steps, self._config.checkpoint_every
        for step in range(first, steps):
            began, tokens = time.perf_counter(), self._backbone.meter.computed_tokens
            self._step(step)
            self._seconds += time.perf_counter() - began
            self._tokens += self._backbone.meter.computed_tokens - tokens
            progress(step + 1, steps, self._losses[-1])
            if step + 1 == steps or (every and (step + 1) % every == 0):
                save_checkpoint(self._folder, self._checkpoint(step + 1))
        return self._summary()

    def _step(self, step: int) -> None:
        batch = self._config.meta_batch
        episodes = [
            self._sampler.episode(index, self._config.shots)
            for index in range(step * batch, (step + 1) * batch)
        ]
        self._optimiser.zero_grad()
        loss, _ = self._learner.meta_loss(episodes)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._config.clip_norm)
        if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
            raise IclError(_diverged(step, episodes))
        self._optimiser.step()
        self._losses.append(float(loss.detach()))

    def _checkpoint(self, step: int) -> Checkpoint:
        tensors: dict[str, Tensor] = {
            f"parameter/{name}": value for name, value in self._learner.state_dict().items()
        }
        for (name, _), state in zip(
            self._parameters.items(), self._optimiser.state_dict()["state"].values(), strict=True
        ):
            tensors |= {f"adam/{key}/{name}": value.cpu() for key, value in state.items()}
        metadata = {
            "identity": self._identity,
            "losses": json.dumps(self._losses),
            "seconds": repr(self._seconds),
            "tokens": repr(self._tokens),
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
        state = {
            index: {
                key: saved.tensors[f"adam/{key}/{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
            for index, name in enumerate(self._parameters)
        }
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self._losses = json.loads(saved.metadata["losses"])
        self._seconds = float(saved.metadata["seconds"])
        self._tokens = float(saved.metadata["tokens"])
        return saved.step

    def _summary(self) -> TrainingSummary:
        tenth = max(1, len(self._losses) // 10)
        return TrainingSummary(
            steps=self._config.steps,
            episodes=self._config.steps * self._config.meta_batch,
            seconds=self._seconds,
            computed_tokens=round(self._tokens),
            trained_parameters=sum(value.numel() for value in self._parameters.values()),
            first_loss=sum(self._losses[:tenth]) / tenth,
            last_loss=sum(self._losses[-tenth:]) / tenth,
            digest=state_digest(self._learner),
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

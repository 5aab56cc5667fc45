"""What a meta-training is made of between two steps, to and from a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from icl.learners.base import MetaLearner
from icl.training.checkpoint import Checkpoint

_PARAMETER, _OPTIMISER, _BEST, _KNOWN = "parameter/", "adam/", "best/", "known"


@dataclass(slots=True)
class Best:
    """The state with the least validation loss so far.

    Attributes:
        step: outer steps done.
        loss: its mean loss on the validation episodes' queries, see `query_loss`.
        state: the meta-parameters.
    """

    step: int
    loss: float
    state: Mapping[str, Tensor]


@dataclass(slots=True)
class State:
    """What a training keeps beside parameters and optimiser.

    The place in the stream of episodes and in the schedule follows from the step, and random draws
    from the step and the episode's place (see `icl.training.outer`), on any number of processes:
    they need no room here.

    Attributes:
        losses: mean meta-loss of each step.
        seconds: wall-clock time of the steps.
        tokens: computed, on all processes.
        halvings: how often the learning rate was halved.
        best: on the validation episodes, if there are any.
        known: what the training has been charged already, see `icl.models.meter`; the main
            process's.
    """

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens: float = 0.0
    halvings: int = 0
    best: Best | None = None
    known: set[int] = field(default_factory=set)


def pack(
    step: int, learner: MetaLearner, optimiser: Optimizer, kept: State, identity: str
) -> Checkpoint:
    """Return the whole state after some steps as a checkpoint."""
    tensors = {f"{_PARAMETER}{name}": value for name, value in learner.state_dict().items()}
    states = optimiser.state_dict()["state"]
    for index, name in enumerate(learner.trainable_parameters()):
        for key, value in states.get(index, {}).items():
            if isinstance(value, Tensor):  # plain descent keeps a None
                tensors[f"{_OPTIMISER}{key}/{name}"] = value.cpu()
    if kept.known:
        tensors[_KNOWN] = torch.tensor(sorted(kept.known))
    metadata = {
        "identity": identity,
        "losses": json.dumps(kept.losses),
        "seconds": repr(kept.seconds),
        "tokens": repr(kept.tokens),
        "halvings": str(kept.halvings),
    }
    if kept.best is not None:
        tensors |= {f"{_BEST}{name}": value for name, value in kept.best.state.items()}
        metadata["best"] = json.dumps([kept.best.step, kept.best.loss])
    return Checkpoint(step, tensors, metadata)


def unpack(saved: Checkpoint, learner: MetaLearner, optimiser: Optimizer) -> State:
    """Put a checkpoint's state back; raises `ValueError` where it is not this learner's."""
    learner.load_state_dict(_under(saved.tensors, _PARAMETER))
    groups = optimiser.state_dict()["param_groups"]
    state: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(learner.trainable_parameters()):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = saved.tensors.get(f"{_OPTIMISER}{key}/{name}")
            if value is not None:
                state.setdefault(index, {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    best = None
    if "best" in saved.metadata:
        step, loss = json.loads(saved.metadata["best"])
        best = Best(step, loss, _under(saved.tensors, _BEST))
    return State(
        losses=json.loads(saved.metadata["losses"]),
        seconds=float(saved.metadata["seconds"]),
        tokens=float(saved.metadata["tokens"]),
        halvings=int(saved.metadata["halvings"]),
        best=best,
        known=set(saved.tensors[_KNOWN].tolist()) if _KNOWN in saved.tensors else set(),
    )


def trained(saved: Checkpoint) -> dict[str, Tensor]:
    """Return the meta-parameters that a finished training has ended with: the best if kept."""
    return _under(saved.tensors, _BEST) or _under(saved.tensors, _PARAMETER)


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Return the hash of a meta-learner's state: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

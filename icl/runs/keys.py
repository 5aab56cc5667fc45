"""Keys: hashes of all that decides a number, so that nothing stale is ever taken for fresh."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from icl.episodes import EpisodeSampler
from icl.episodes.origin import data_hash, sampler_arguments
from icl.tasks.kinds.registry import KINDS, kind_class
from icl.tasks.kinds.registry import home as kind_home
from icl.tools.closure import code_of
from icl.training import TrainingConfig
from icl.training.samplers import fine_tuning_sampler, validation_sampler

# What stands around every learner: who asks it, and how the model comes that it is given.
_AROUND = ("icl.runs.judge", "icl.models.loading.load")
_TRAINING = ("icl.training.trainer", "icl.episodes.sampler")


def digest(value: Any) -> str:
    """Hash a JSON-like value: 16 hexadecimal digits of SHA-256, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_key() -> str:
    """Hash the code that decides any number of the methods that icl knows."""
    return code_of("icl.learners.registry", *_AROUND, *map(kind_home, KINDS), *_TRAINING)


def method_key(method: str) -> list[str]:
    """Return what tells a method from all others: its name, its class, and the code behind it.

    Somebody's own method is known by its class and code alone, so that its file may move.
    """
    from icl.learners.registry import home, methods, writes

    module, name = home(method)
    known = method if method in methods() else ""
    # and the kinds of tasks that it can take part in, with the metrics of those
    kinds = [kind_home(k) for k in KINDS if writes(method) or not kind_class(k).writes]
    return [known, name, code_of(module, *_AROUND, *kinds)]


def training_key(
    method: str,
    params: Mapping[str, Any],
    training: TrainingConfig,
    identity: str,
    sampler: EpisodeSampler,
) -> str:
    """Hash all that decides what a meta-learner becomes.

    The episodes that it learns from and is chosen by enter by their samplers' arguments and all
    the data that these may draw.

    Raises:
        IclError: the training asks for episodes that its tasks cannot give.
    """
    beside = (fine_tuning_sampler(sampler, training), validation_sampler(sampler, training))
    samplers = [sampler, *(s for s in beside if s is not None and s is not sampler)]
    drawn = [[sampler_arguments(one), data_hash(one)] for one in samplers]
    told = [*method_key(method), code_of(*_TRAINING)]
    return digest([told, params, training.deciding(), identity, drawn])


def learner_key(
    method: str, params: Mapping[str, Any], identity: str, state: str | None = None
) -> str:
    """Hash all that decides a learner's answers: method, parameters, model, trained state, code.

    Args:
        method: the method's name.
        params: its parameters, complete with defaults.
        identity: `Backbone.identity` of the model.
        state: the digest of a meta-learner's trained state.
    """
    return digest([method_key(method), params, identity, state])

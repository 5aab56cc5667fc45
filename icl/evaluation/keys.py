"""Keys: hashes of all that decides a number, so that nothing stale is ever taken for fresh."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import icl
from icl.episodes import Episode

# What is here decides what a learner answers to a given episode; an edit redoes its records.
_DECIDING = (
    "learners/**/*.py",
    "models/**/*.py",
    "prompting/**/*.py",
    "training/**/*.py",
    "evaluation/judge.py",
)


def digest(value: Any) -> str:
    """Hash a JSON-like value: 16 hexadecimal digits of SHA-256, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def code_key() -> str:
    """Hash the source files that decide a learner's answers."""
    root = Path(icl.__file__).parent
    files = sorted(path for pattern in _DECIDING for path in root.glob(pattern))
    return digest(
        [[f.relative_to(root).as_posix(), f.read_text("utf-8").splitlines()] for f in files]
    )


def training_key(
    method: str,
    params: Mapping[str, Any],
    training: Mapping[str, Any],
    identity: str,
    first_episodes: Iterable[Episode],
) -> str:
    """Hash all that decides what a meta-learner becomes.

    The training episodes enter by the fingerprints of the first ones, which hold the task family,
    its data and templates, the seed, split, ways, shots and setting.
    """
    fingerprints: Sequence[str] = [episode.fingerprint for episode in first_episodes]
    return digest([method, params, training, identity, fingerprints, _code(method)])


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
    return digest([method, params, identity, state, _code(method)])


def _code(method: str) -> str:
    """Hash the code that decides a method's answers, somebody's own method's too."""
    from icl.learners.registry import own_source

    own = own_source(method)
    return digest([code_key(), own]) if own else code_key()

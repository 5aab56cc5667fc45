"""`EpisodeRecord`: what one learner did on one episode."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a learner spent on an episode, adaptation and prediction together.

    Attributes:
        prompt_tokens: tokens that a naive run of each prompt alone would process.
        computed_tokens: token positions that went through the model forward.
        seconds: wall-clock time.
        peak_memory_mb: the process's peak resident memory (CUDA: peak allocated), in MiB.
        trained_parameters: numbers moved by adaptation or meta-training.
    """

    prompt_tokens: int
    computed_tokens: int
    seconds: float
    peak_memory_mb: float
    trained_parameters: int


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One line of a run's `records.jsonl`.

    `log_probs` has a row a query and a column a label; `predictions` and `gold` are columns.
    `learner_key` hashes all that decides the numbers: method, parameters, model, adapter, code.
    """

    learner: str
    method: str
    learner_key: str
    fingerprint: str
    task: str
    setting: str
    split: str
    index: int
    ways: int
    shots: int
    support_language: str
    query_language: str
    labels: tuple[str, ...]
    query_ids: tuple[str, ...]
    parallel_ids: tuple[str, ...]
    log_probs: tuple[tuple[float, ...], ...]
    predictions: tuple[int, ...]
    gold: tuple[int, ...]
    cost: Cost
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> tuple[str, str]:
        """What makes a record one of its kind: (learner key, episode fingerprint)."""
        return (self.learner_key, self.fingerprint)

    @property
    def accuracy(self) -> float:
        """The share of queries labelled right."""
        right = sum(p == g for p, g in zip(self.predictions, self.gold, strict=True))
        return right / len(self.gold)

    def to_json(self) -> str:
        """Serialise as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """Read what `to_json` wrote; raises `ValueError` for another schema version."""
        data: dict[str, Any] = json.loads(line)
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"record schema {data.get('schema_version')} is not {SCHEMA_VERSION}")
        data["cost"] = Cost(**data["cost"])
        data["log_probs"] = tuple(tuple(row) for row in data["log_probs"])
        for name in ("labels", "query_ids", "parallel_ids", "predictions", "gold"):
            data[name] = tuple(data[name])
        return cls(**data)

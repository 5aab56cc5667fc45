"""`EpisodeRecord`: what one learner did on one episode."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NoReturn

from icl.errors import NewerSchemaError
from icl.tools.values import is_amount

SCHEMA_VERSION = 4
# 1 has no written answers, 1 and 2 have no checksum, 3 no level of chance, which was 0 of what had
# scores; all else is the same
_READABLE = (1, 2, 3, 4)
_UNSEALED = (1, 2)
_SEAL = ',"check":"'
_ROUNDING = 1e-4
ACCURACY = "accuracy"


class ChangedRecordError(ValueError):
    """A record is whole, and is not what was written; says whose it is, and how it is known."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a learner spent on an episode, adaptation and prediction together.

    Attributes:
        prompt_tokens: tokens that a naive run of each prompt alone would process.
        computed_tokens: token positions that went through the model forward, shared ones too.
        seconds: wall-clock time, that of what was shared too.
        peak_memory_mb: the process's peak resident memory (CUDA: peak allocated), in MiB.
        trained_parameters: numbers moved by adaptation or meta-training.
        forward_flops, backward_flops: floating-point operations of the model's products, see
            `icl.models.flops`; None where they were not (a server's, SetFit's, older records).
        shared_tokens, shared_seconds: the part of tokens and seconds that a cache of icl's saved,
            since another learner or episode had computed the same before. It is charged to each
            that uses it, so that a cost depends on no order and no history (older records, where
            it was not, have zeros).

    Raises `ValueError` for what is no number from zero.
    """

    prompt_tokens: int
    computed_tokens: int
    seconds: float
    peak_memory_mb: float
    trained_parameters: int
    forward_flops: int | None = None
    backward_flops: int | None = None
    shared_tokens: int = 0
    shared_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no run can have cost."""
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not is_amount(value):
                raise ValueError(f"the cost {name} is {value}")


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One line of a run's `records.jsonl`.

    `log_probs` has a row a query and a column a label; `predictions` and `gold` are columns.
    A record of another kind of task than one label out of several has none of these three, nor
    `labels`; it has `texts`, the answers as the kind writes them, their `references`, `scores`: by
    metric, in [0, 1], one a query, and `chance`: by metric what guessing evenly scores, where that
    is more than nothing.
    `transductive` says that the learner saw all queries at once.
    `learner_key` hashes all that decides the numbers: method, parameters, model, adapter, code.
    Raises `ValueError` for parts that do not fit together, and for log-probabilities above zero
    or not a number. A label ruled out has minus infinity, in JSON `null`.
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
    scoring: Mapping[str, int] = field(default_factory=dict)
    transductive: bool = False
    texts: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        queries = len(self.query_ids)
        if queries == 0:
            raise ValueError("a record needs at least one query")
        labelled, scored = ("log_probs", "predictions", "gold"), ("texts", "references")
        has, lacks = (scored, labelled) if self.scored else (labelled, scored)
        for name in lacks:
            if getattr(self, name):
                raise ValueError(f"{name} does not belong to this kind of task")
        for name in ("parallel_ids", *has):
            if len(getattr(self, name)) != queries:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, not {queries}")
        if self.scored:
            self._check_scored(queries)
        elif self.chance:
            raise ValueError("chance does not belong to this kind of task")
        else:
            self._check_labelled()

    def _check_scored(self, queries: int) -> None:
        if self.ways or self.labels or ACCURACY in self.scores:
            raise ValueError("a record with scores has no labels, and no accuracy of theirs")
        if not all(name in self.scores and 0 <= x <= 1 for name, x in self.chance.items()):
            raise ValueError("chance is not from 0 to 1 of metrics that there are")
        for name, row in self.scores.items():
            if len(row) != queries or not all(0 <= x <= 1 for x in row):  # NaN compares false
                raise ValueError(f"scores of {name!r} are not {queries} numbers from 0 to 1")

    def _check_labelled(self) -> None:
        if not all(0 <= c < self.ways for c in (*self.predictions, *self.gold)):
            raise ValueError(f"a prediction or gold label is none of the {self.ways} columns")
        if len(self.labels) != self.ways or any(len(row) != self.ways for row in self.log_probs):
            raise ValueError(f"labels and each row of log_probs need {self.ways} columns")
        # Rounding in float32 may leave a certain label a hair above zero.
        if not all(x <= _ROUNDING for row in self.log_probs for x in row):  # NaN compares false
            raise ValueError("a log-probability is above zero or not a number")
        if any(max(row) == -math.inf for row in self.log_probs):
            raise ValueError("all labels of a query are ruled out")

    @property
    def key(self) -> tuple[str, str]:
        """What makes a record one of its kind: (learner key, episode fingerprint)."""
        return (self.learner_key, self.fingerprint)

    @property
    def scored(self) -> bool:
        """Whether it holds scores by its kind's own metrics, and not what labels were given."""
        return bool(self.scores)

    @property
    def changed(self) -> bool:
        """Whether the episode's labels were changed, see `icl.episodes.variants`."""
        from icl.episodes.variants import without_variant

        return without_variant(self.setting) != self.setting

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that judge it: ``accuracy``, or those of its scores."""
        return tuple(self.scores) if self.scored else (ACCURACY,)

    def outcomes(self, metric: str = ACCURACY) -> tuple[float, ...]:
        """Return each query's score by a metric, in [0, 1]; raises `KeyError` for another's."""
        if self.scored or metric != ACCURACY:
            return self.scores[metric]
        return tuple(float(p == g) for p, g in zip(self.predictions, self.gold, strict=True))

    def guessing(self, metric: str) -> float:
        """Return what guessing evenly scores by a metric."""
        return self.chance.get(metric, 0.0) if self.scored else 1 / self.ways

    @property
    def accuracy(self) -> float:
        """The share of queries labelled right; raises `KeyError` for other kinds of tasks."""
        right = self.outcomes()
        return sum(right) / len(right)

    @property
    def score(self) -> float:
        """The mean of its first metric: accuracy, or what judges its kind of task first."""
        values = self.outcomes(self.metrics[0])
        return sum(values) / len(values)

    def outcome(self) -> EpisodeRecord:
        """Return the record with its cost set to nothing: what must be equal between two runs."""
        return replace(self, cost=Cost(0, 0, 0.0, 0.0, 0))

    def to_json(self) -> str:
        """Serialise as one line of strict JSON (no newline within), its checksum at the end."""
        data = asdict(self)
        data["log_probs"] = [[None if x == -math.inf else x for x in row] for row in self.log_probs]
        data["cost"] = {
            name: value
            for name, value in data["cost"].items()
            if value is not None and (value or not name.startswith("shared"))
        }
        for name in ("scoring", "transductive", "texts", "references", "scores", "chance"):
            if not data[name]:
                del data[name]
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _sealed(text)

    @classmethod
    def from_json(cls, line: str) -> EpisodeRecord:
        """Read what `to_json` wrote, in this version or an earlier one.

        Raises:
            NewerSchemaError: a newer icl has written it.
            ChangedRecordError: its checksum does not fit, or a prediction is not the best of its
                log-probabilities.
            ValueError: for anything else.
        """
        data: Any = json.loads(line)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerSchemaError("A record", version, SCHEMA_VERSION)
        if not isinstance(data, dict) or data.get("schema_version") not in _READABLE:
            raise ValueError(f"not a record of schema {SCHEMA_VERSION} or below")
        check, data["schema_version"] = data.pop("check", None), SCHEMA_VERSION
        if "\\u" in line:  # it may be half of a surrogate pair, which could not be written again
            json.dumps(data, ensure_ascii=False).encode()
        _check_kinds(data)
        for name in _TEXT:  # a run repeats them in every record: in memory they stand once
            if name in data:
                data[name] = sys.intern(data[name])
        try:
            data["cost"] = Cost(**data["cost"])
            data["log_probs"] = tuple(
                tuple(-math.inf if x is None else x for x in row) for row in data["log_probs"]
            )
            for name in ("labels", "query_ids", "parallel_ids"):
                data[name] = tuple(map(sys.intern, data[name]))
            if data["parallel_ids"] == data["query_ids"]:
                data["parallel_ids"] = data["query_ids"]
            for name in ("predictions", "gold"):
                data[name] = tuple(data[name])
            for name in ("texts", "references"):
                data[name] = tuple(data.get(name, ()))
            data["scores"] = {k: tuple(row) for k, row in data.get("scores", {}).items()}
            made = cls(**data)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a record of schema {SCHEMA_VERSION}: {error}") from error
        if (check is not None or version not in _UNSEALED) and not _is_sealed(line.rstrip()):
            made._refuse("its checksum does not fit")
        if any(row[p] != max(row) for row, p in zip(made.log_probs, made.predictions, strict=True)):
            made._refuse("a prediction is not the best of its log-probabilities")
        return made

    def _refuse(self, reason: str) -> NoReturn:
        raise ChangedRecordError(
            f"the record of {self.learner!r} on episode {self.fingerprint} was changed after it was"
            f" written ({reason})"
        )


def _sealed(text: str) -> str:
    """Return a JSON object's text with its checksum at the end."""
    check = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f'{text[:-1]}{_SEAL}{check}"}}'


def _is_sealed(line: str) -> bool:
    """Tell whether a line ends in its checksum: of two values of a name the later would count."""
    return line == _sealed(line.rpartition(_SEAL)[0] + "}")


_TEXT = (
    "learner", "method", "learner_key", "fingerprint", "task", "setting", "split",
    "support_language", "query_language",
)  # fmt: skip
_LISTS: Mapping[str, set[type]] = {
    "labels": {str}, "query_ids": {str}, "parallel_ids": {str}, "texts": {str},
    "references": {str}, "predictions": {int}, "gold": {int},
}  # fmt: skip


def _check_kinds(data: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a field of another kind than `EpisodeRecord` says."""
    wrong = [name for name in _TEXT if not isinstance(data.get(name, ""), str)]
    wrong += [n for n in ("index", "ways", "shots") if not isinstance(data.get(n, 0), int)]
    for name, kinds in _LISTS.items():
        value = data.get(name, [])
        if not isinstance(value, list) or not kinds.issuperset(map(type, value)):
            wrong.append(name)
    for name in ("scoring", "chance"):
        value = data.get(name, {})
        if not isinstance(value, dict) or not all(map(is_amount, value.values())):
            wrong.append(name)
    if wrong:
        raise ValueError(f"not a record of schema {SCHEMA_VERSION}: {', '.join(wrong)}")

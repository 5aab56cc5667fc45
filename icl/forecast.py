"""What an experiment will do and take, before it does it: ``icl run --dry-run``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.config import ExperimentConfig
from icl.episodes import Episode
from icl.evaluation.runfolder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = 1024  # the side of the matrices by which the machine's rate is measured
_TRIES = 8
_BACKWARD = 3  # a step forward and backward costs about three passes forward


@dataclass(frozen=True, slots=True)
class Line:
    """What one learner has before it.

    Attributes:
        learner, method: its names.
        episodes: how many it is judged on.
        done: how many of these the folder has already.
        steps: of meta-training that are left.
        tokens: token positions that go through the model, about; None where nothing tells.
        seconds: about; None where nothing tells.
        measured: whether the seconds come from what the folder's records took.
    """

    learner: str
    method: str
    episodes: int
    done: int
    steps: int
    tokens: float | None
    seconds: float | None
    measured: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan.

    Attributes:
        lines: by learner, in the configuration's order.
        parameters: of the model; None where its files are not at hand.
        bytes: that the model's weights take; None likewise.
    """

    lines: tuple[Line, ...]
    parameters: int | None
    bytes: int | None


def forecast(config: ExperimentConfig, folder: Path, limit: int | None = None) -> Forecast:
    """Say what is to be done, and estimate what it takes, without loading the model.

    Times come from the records of the same learners in the folder, where it has any, else from
    tokens: two floating-point operations for each token and parameter but those of embeddings
    (Kaplan et al. 2020, section 2.1), over this machine's rate at a matrix product. Those are
    rough: within a factor of a few.

    Raises:
        IclError: as for running it.
    """
    from icl.experiment import draw_episodes, prepare_family

    family = prepare_family(config)
    episodes = draw_episodes(config, family, limit)
    tokenizer, size = _model(config)
    parameters = None if size is None else size.parameters
    rate = None if parameters is None else _rate()
    done, seconds = _known(config, folder, {e.fingerprint for e in episodes})
    lines = []
    for name, learner in config.learners.items():
        complete = learner.complete()
        params = complete.params().model_dump()
        left = max(0, len(episodes) - done[name])
        training = complete.training
        steps = 0 if training is None or seconds[name] else training.steps
        tokens = None
        if tokenizer is not None:
            part = 1.0 if size is None else size.part(params.get("top_layers"))
            judged = sum(_tokens(e, complete.method, params, tokenizer, part) for e in episodes)
            tokens = judged * left / len(episodes)
            if steps and training is not None:
                mean = _mean_example(episodes, tokenizer)
                ways = training.ways or max(e.ways for e in episodes)
                inner = int(params.get("inner_steps", 0) or 0)
                each = (
                    ways * training.shots * (1 + _BACKWARD * inner) + _BACKWARD * training.queries
                )
                tokens += steps * training.meta_batch * each * mean
        measured = bool(seconds[name]) and not steps
        if measured:
            took: float | None = left * sum(seconds[name]) / len(seconds[name])
        elif tokens is not None and size is not None and rate is not None:
            took = 2.0 * size.working * tokens / rate
        else:
            took = None
        lines.append(
            Line(name, complete.method, len(episodes), done[name], steps, tokens, took, measured)
        )
    each = {"float32": 4, "bfloat16": 2, "float16": 2}[config.model.dtype]
    return Forecast(tuple(lines), parameters, None if parameters is None else each * parameters)


def _known(
    config: ExperimentConfig, folder: Path, asked: set[str]
) -> tuple[Mapping[str, int], Mapping[str, list[float]]]:
    """Return how many of the episodes a run folder has records of, and seconds, by learner.

    Records count where the folder's roster has them under the same parameters.
    """
    from icl.config import load_config

    done: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    run = RunFolder(folder)
    roster = run.read_json("run.json")
    if roster is None or not (folder / "config.yaml").is_file():
        return done, seconds
    before = load_config(folder / "config.yaml")
    same = {
        name
        for name, learner in config.learners.items()
        if before.model == config.model
        and name in before.learners
        and before.learners[name].complete() == learner.complete()
    }
    keys = {row["key"]: row["name"] for row in roster["learners"] if row["key"]}
    for record in run.store.scan():
        name = keys.get(record.learner_key)
        if name in same:
            seconds[name].append(record.cost.seconds)
            done[name] += record.fingerprint in asked
    return done, seconds


@dataclass(frozen=True, slots=True)
class _Size:
    """A model's parameters, how many of them each token meets, and its layers."""

    parameters: int
    working: int
    layers: int

    def part(self, top_layers: int | None) -> float:
        """Return the share of the layers that a gradient method adapts."""
        return 1.0 if top_layers is None else min(1.0, top_layers / self.layers)


def _model(config: ExperimentConfig) -> tuple[PreTrainedTokenizerBase | None, _Size | None]:
    """Return the tokenizer and the model's size, where its files are at hand."""
    from safetensors import safe_open
    from transformers import AutoConfig

    from icl.errors import IclError
    from icl.models.loading import load_tokenizer, model_path

    if config.model.server is not None:
        return None, None
    try:
        tokenizer = load_tokenizer(config.model.name, revision=config.model.revision)
    except IclError:
        return None, None
    path = Path(model_path(config.model.name))
    if not path.is_dir():
        path = _cached(config.model.name, config.model.revision) or path
    number = tables = 0
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                size = 1
                for side in tensors.get_slice(name).get_shape():
                    size *= side
                number += size
                tables += size * ("embed" in name or "lm_head" in name or "wte" in name)
    if not number:
        return tokenizer, None
    layers = AutoConfig.from_pretrained(path).get_text_config().num_hidden_layers
    return tokenizer, _Size(number, number - tables, layers)


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _tokens(
    episode: Episode,
    method: str,
    params: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    part: float,
) -> float:
    """Return about how many tokens an episode takes, each distinct one once.

    A step backward and forward again counts for the share of the layers that is adapted.
    """
    template = episode.labels.template
    answers = _count(episode.labels.words, tokenizer)
    asked = _count([template.render(e.fields) for e in episode.query], tokenizer)
    asked += len(episode.query) * answers
    shown = _count([template.render(e.fields) for e in episode.support], tokenizer)
    shown += len(episode.support) * answers / len(episode.labels)
    if method in ("majority", "stratified", "tfidf"):
        return 0.0
    if method == "zero-shot":
        return asked
    steps = params.get("adapt_steps") or params.get("inner_steps") or params.get("steps") or 0
    return asked + shown * (1 + part * _BACKWARD * int(steps))


def _mean_example(episodes: Sequence[Episode], tokenizer: PreTrainedTokenizerBase) -> float:
    rows = [e.labels.template.render(q.fields) for e in episodes[:8] for q in e.query]
    words = [word for e in episodes[:8] for word in e.labels.words]
    return _count(rows, tokenizer) / len(rows) + _count(words, tokenizer) / len(words)


def _count(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> float:
    if not texts:
        return 0.0
    return float(
        sum(len(row) for row in tokenizer(list(texts), add_special_tokens=False).input_ids)
    )


def _rate() -> float:
    """Return floating-point operations a second of a matrix product in float32 on this machine."""
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.ones(_PROBE, _PROBE, device=device)
    best = float("inf")
    for _ in range(_TRIES):  # the best, since others may be at work here too
        start = time.perf_counter()
        out = matrix @ matrix
        float(out[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * _PROBE**3 / best

"""What an experiment will do and take, before it does it: ``icl run --dry-run``."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.tuning import Trials, trial_name
from icl.learners.base import MetaLearner
from icl.learners.registry import learner_class
from icl.learners.work import TokenCounter
from icl.runs.entrants import Entrant, suited
from icl.runs.folder import RunFolder
from icl.runs.roster import read_roster
from icl.runs.trials import TRIALS
from icl.tools.amounts import Work

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = 1024  # the side of the matrices by which the machine's rate is measured
_TRIES = 8
_LOOKED_AT = 24  # episodes whose tokens are counted; the others are taken to be like them


@dataclass(frozen=True, slots=True)
class Line:
    """What one learner has before it.

    Attributes:
        learner, method: its names; trials of a learner that is tuned have a line of their own.
        episodes: how many it is judged on.
        done: how many of these the folder has already.
        steps: of meta-training that are left.
        tokens: token positions that go through the model forward, as records count them, about;
            None where nothing tells.
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

    Tokens are counted from the texts, as each learner says (`Learner.work`). Times come from the
    records of the same learners in the folder, where it has any, else from tokens: two
    floating-point operations for each token and parameter but those of embeddings (Kaplan et al.
    2020, section 2.1), more where gradients are taken, over this machine's rate at a matrix
    product. Those are rough: within a factor of a few.

    Raises:
        IclError: as for running it.
    """
    from icl.experiments.experiment import prepare

    asked = prepare(config, limit)
    trials = () if asked.trials is None else _trials(asked.trials, folder, limit)
    episodes = list(suited(asked.entrants, asked.episodes))
    tokenizer, size = _model(config)
    parameters = None if size is None else size.parameters
    rate = None if parameters is None else _rate()
    done, seconds = _known(config, folder, {e.fingerprint for e in episodes})
    layers, encoder = (1, False) if size is None else (size.layers, size.encoder)
    counter = None if tokenizer is None else TokenCounter(tokenizer, layers, encoder)
    lines = []
    for entrant in asked.entrants:
        name, training = entrant.name, entrant.training
        left = max(0, len(episodes) - done[name])
        # one that is tuned is handed on by its best trial
        steps = 0 if training is None or seconds[name] or trials else training.steps
        work = None if counter is None else _judged(counter, entrant, episodes, left)
        if counter is not None and work is not None and steps:
            trained = _trained(counter, entrant)
            work = None if trained is None else work + trained
        measured = bool(seconds[name]) and not steps
        took: float | None = None
        if measured:
            took = left * sum(seconds[name]) / len(seconds[name])
        elif work is not None and size is not None and rate is not None:
            took = 2.0 * size.working * work.passes / rate
        tokens = None if work is None else work.tokens
        lines.append(
            Line(name, entrant.method, len(episodes), done[name], steps, tokens, took, measured)
        )
    each = {"float32": 4, "bfloat16": 2, "float16": 2}[config.model.dtype]
    lines = [*trials, *lines]
    return Forecast(tuple(lines), parameters, None if parameters is None else each * parameters)


def _trials(trials: Trials, folder: Path, limit: int | None) -> list[Line]:
    """Return a line for the trials of each learner: what they take together."""
    found = {line.learner: line for line in forecast(trials.config, folder / TRIALS, limit).lines}
    lines = []
    for name, values in trials.drawn.items():
        own = [found[trial_name(name, number)] for number in range(len(values))]
        tokens = [line.tokens for line in own if line.tokens is not None]
        seconds = [line.seconds for line in own if line.seconds is not None]
        lines.append(
            Line(
                f"{name}: {len(own)} trial{'s' * (len(own) != 1)}",
                own[0].method,
                sum(line.episodes for line in own),
                sum(line.done for line in own),
                sum(line.steps for line in own),
                sum(tokens) if len(tokens) == len(own) else None,
                sum(seconds) if len(seconds) == len(own) else None,
                all(line.measured for line in own),
            )
        )
    return lines


def _judged(
    counter: TokenCounter, entrant: Entrant, episodes: Sequence[Episode], left: int
) -> Work | None:
    """Estimate the work of what is left of the episodes, from some that are spread over them."""
    some = episodes[:: -(-len(episodes) // _LOOKED_AT)]
    learner = learner_class(entrant.method)
    total = Work()
    for episode in some:
        one = learner.work(counter, episode.posed(), entrant.params)
        if one is None:
            return None
        total += one
    return total * (left / len(some))


def _trained(counter: TokenCounter, entrant: Entrant) -> Work | None:
    """Estimate the work of meta-training, from the first of its episodes."""
    training, sampler, learner = entrant.training, entrant.sampler, learner_class(entrant.method)
    assert training is not None and sampler is not None and issubclass(learner, MetaLearner)
    count = training.steps * training.meta_batch
    some = [e.posed() for e in sampler.episodes(min(_LOOKED_AT, count))]
    work = learner.training_work(counter, some, entrant.params)
    return None if work is None else work * (count / len(some))


def _known(
    config: ExperimentConfig, folder: Path, asked: set[str]
) -> tuple[Mapping[str, int], Mapping[str, list[float]]]:
    """Return how many of the episodes a run folder has records of, and seconds, by learner.

    Records count where the folder's roster has them under the same parameters.
    """
    done: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    run = RunFolder(folder)
    if not all((folder / name).is_file() for name in ("run.json", "config.yaml")):
        return done, seconds
    before = load_config(folder / "config.yaml")
    same = {
        name
        for name, learner in config.learners.items()
        if before.model == config.model
        and before.tuning == config.tuning
        and name in before.learners
        and before.learners[name].complete() == learner.complete()
    }
    keys = {row["key"]: row["name"] for row in read_roster(run) if row["key"]}
    for record in run.store.scan():
        name = keys.get(record.learner_key)
        if name in same:
            seconds[name].append(record.cost.seconds)
            done[name] += record.fingerprint in asked
    return done, seconds


@dataclass(frozen=True, slots=True)
class _Size:
    """A model's parameters, how many of them each token meets, its layers, and its kind."""

    parameters: int
    working: int
    layers: int
    encoder: bool


def _model(config: ExperimentConfig) -> tuple[PreTrainedTokenizerBase | None, _Size | None]:
    """Return the tokenizer and the model's size, where its files are at hand."""
    from huggingface_hub import try_to_load_from_cache
    from safetensors import safe_open
    from transformers import AutoConfig

    from icl.models.loading.load import is_encoder, load_tokenizer
    from icl.models.loading.named import model_path

    if config.model.server is not None:
        return None, None
    try:
        tokenizer = load_tokenizer(config.model.name, revision=config.model.revision)
    except IclError:
        return None, None
    path = Path(model_path(config.model.name))
    if not path.is_dir():
        found = try_to_load_from_cache(
            config.model.name, "config.json", revision=config.model.revision
        )
        path = Path(found).parent if isinstance(found, str) else path
    number = tables = 0
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                size = math.prod(tensors.get_slice(name).get_shape())
                number += size
                tables += size * ("embed" in name or "lm_head" in name or "wte" in name)
    if not number:
        return tokenizer, None
    try:  # a plan runs no code of the repository's, whatever the experiment says
        said = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError):
        return tokenizer, None
    layers = said.get_text_config().num_hidden_layers
    return tokenizer, _Size(number, number - tables, layers, is_encoder(said))


def _rate() -> float:
    """Return floating-point operations a second of a matrix product in float32 on this machine."""
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

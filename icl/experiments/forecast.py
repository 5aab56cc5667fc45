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
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.learner_config import LearnerConfig
from icl.experiments.model_size import ModelSize, look_at
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
        model: what reports call its model; None where it needs none.
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
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan.

    Attributes:
        lines: by learner, in the configuration's order.
        sizes: of the models, by what reports call them; None where its files are not at hand.
    """

    lines: tuple[Line, ...]
    sizes: Mapping[str, ModelSize | None]


def forecast(config: ExperimentConfig, folder: Path, limit: int | None = None) -> Forecast:
    """Say what is to be done, and estimate what it takes, without loading a model.

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
    looked = {label: look_at(model) for label, model in config.by_name.items()}
    sizes = {label: size for label, (_, size) in looked.items()}
    rate = _rate() if any(size is not None for size in sizes.values()) else None
    done, seconds = _known(config, folder, {e.fingerprint for e in episodes})
    counters = {label: _counter(*found) for label, found in looked.items()}
    lines = []
    for entrant in asked.entrants:
        name, training, label = entrant.name, entrant.training, entrant.model.label
        counter, size = counters[label], sizes[label]
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
        on = label if entrant.needs_model else None
        lines.append(
            Line(name, entrant.method, len(episodes), done[name], steps, tokens, took, measured, on)
        )
    return Forecast((*trials, *lines), sizes)


def _counter(
    tokenizer: PreTrainedTokenizerBase | None, size: ModelSize | None
) -> TokenCounter | None:
    if tokenizer is None:
        return None
    layers, encoder = (1, False) if size is None else (size.layers, size.encoder)
    return TokenCounter(tokenizer, layers, encoder)


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
                own[0].model,
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
    if work is None:
        return None
    uses = count * sum(len(e.support) + len(e.query) for e in some) / len(some)
    texts = sum(len(pool.rows) for pool in sampler.pools())
    return (work * (count / len(some))).where_new(_distinct(uses, texts) / uses)


def _distinct(uses: float, texts: int) -> float:
    """Return how many different texts are expected among uses by lot."""
    return texts * -math.expm1(-uses / texts)


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
        if before.tuning == config.tuning
        and name in before.learners
        and before.model_of(name) == config.model_of(name)
        and _but_model(before.learners[name]) == _but_model(learner)
    }
    keys = {row["key"]: row["name"] for row in read_roster(run) if row["key"]}
    for record in run.store.scan():
        name = keys.get(record.learner_key)
        if name in same:
            seconds[name].append(record.cost.seconds)
            done[name] += record.fingerprint in asked
    return done, seconds


def _but_model(learner: LearnerConfig) -> LearnerConfig:
    """Return a learner, complete, without the name of its model, which may be another's today."""
    return learner.complete().model_copy(update={"model": None})


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

"""An experiment from its configuration to its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.episodes.files import EPISODES, check_lines, open_episodes, read_lines
from icl.episodes.setting import WITHIN
from icl.episodes.splits import without_leaks
from icl.episodes.variants import VARIANTS, is_abstract
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, LearnerConfig, ModelConfig
from icl.learners.registry import writes
from icl.models.loading.identity import model_identity
from icl.models.server.config import ServerConfig
from icl.processes import ALONE, Processes
from icl.runs.entrants import Entrant, Model
from icl.runs.finished import meta_training, roster, training_logs, whole_episodes
from icl.runs.folder import RunFolder
from icl.runs.judge import cannot_write
from icl.runs.record import EpisodeRecord
from icl.runs.runner import Runner
from icl.tasks import TaskFamily, load_family
from icl.tools.own_class import is_own
from icl.tools.progress import progress
from icl.tools.trackers import Trackers
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from icl.models import base


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has found so far.

    Attributes:
        records: of the run's learners on the run's episodes, in the configuration's order; only
            the main of several processes holds them.
        meta_training: by learner, for those that were meta-trained: seconds, tokens, steps.
        report: the HTML page.
    """

    records: Sequence[EpisodeRecord]
    meta_training: Mapping[str, Mapping[str, float]]
    report: Path


def run_experiment(
    config: ExperimentConfig,
    folder: Path,
    *,
    command: str,
    limit: int | None = None,
    processes: Processes = ALONE,
    track: Sequence[str] = (),
) -> Outcome:
    """Run an experiment in a folder, or what is left of it, and write its report.

    Args:
        config: the experiment.
        folder: where records, checkpoints and the report go; see `RunFolder`.
        command: how the user started it; stands in the report.
        limit: at most so many episodes of each setting; they are the first of the whole run's.
        processes: that share the work, each of which calls this with the same arguments on a
            folder that all of them see; the main one writes the report.
        track: names of trackers that are told the figures, see `Trackers`.

    Raises:
        IclError: for everything that the user can mend.
    """
    check_processes(config, processes.count)
    family = prepare_family(config)
    episodes = iterate_episodes(config, family, limit)
    entrants = [_entrant(name, learner) for name, learner in config.learners.items()]
    training = {e.name: training_sampler(config, family, e) for e in entrants if e.training}
    run = RunFolder(folder, processes.index)
    with run.locked() if processes.main else nullcontext():
        if processes.main:
            run.begin(config.to_yaml())
        model = make_model(config.model, processes)
        asked = track if processes.main else ()
        with Trackers(asked, folder, config.name, config.resolved()) as trackers:
            told = (processes, trackers.line, config.to_yaml())
            Runner(run, entrants, episodes, model, training, *told).run()
            if not processes.main:
                processes.meet()
                return Outcome((), {}, folder / "report.html")
            outcome = write_outcome(run, command=command)
            trackers.accuracies(_accuracies(outcome.records))
        processes.meet()
        return outcome


def _accuracies(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Return each learner's mean over episodes of accuracy, or of the first metric of texts."""
    found: dict[str, list[float]] = {}
    for record in records:
        if not record.changed:
            found.setdefault(record.learner, []).append(record.score)
    return {name: sum(values) / len(values) for name, values in found.items()}


def check_processes(config: ExperimentConfig, count: int) -> None:
    """Raise `IclError` where an experiment cannot be run by several processes."""
    if config.model.server is not None and count > 1:
        raise IclError(
            "A model on a server is asked by one process, which keeps to its pace and budget;"
            " raise `model.server.concurrency` instead of starting more processes."
        )


def prepare_family(config: ExperimentConfig) -> TaskFamily:
    """Load the experiment's tasks, without what leaks between splits if it says so.

    Raises:
        IclError: no such family or template, or data that are not at hand.
    """
    tasks = config.tasks
    family = load_family(tasks.family, data=tasks.data, template=tasks.template)
    return without_leaks(family, config.episodes.near) if config.episodes.drop_leaks else family


def draw_episodes(
    config: ExperimentConfig, family: TaskFamily, limit: int | None = None
) -> list[Episode]:
    """Draw the episodes that learners are compared on, or read the saved ones.

    Raises:
        IclError: the family cannot give what the configuration asks for, or the saved episodes
            are damaged or leak.
    """
    return list(iterate_episodes(config, family, limit))


def iterate_episodes(
    config: ExperimentConfig, family: TaskFamily, limit: int | None = None
) -> Iterator[Episode]:
    """Do as `draw_episodes`, one episode at a time; what is asked for is checked at once."""
    asked, suits = config.episodes, partial(_suits, config, family)
    if asked.file is not None:
        return map(suits, _saved(Path(asked.file), limit))
    count = asked.count or 0
    count = count if limit is None else min(limit, count)
    return (
        suits(episode if change is None else change(episode))
        for sampler in asked.samplers(family, config.seed)
        for change in map(VARIANTS.get, asked.variants)
        for episode in sampler.episodes(count)
    )


def _saved(path: Path, limit: int | None) -> Iterator[Episode]:
    """Read saved episodes, of each setting and split the first `limit` indices."""
    if path.is_dir():
        saved = open_episodes(path)
        saved.check()
    else:
        check_lines(path)
    file = path / EPISODES if path.is_dir() else path
    kept: dict[tuple[str, str], dict[int, None]] = {}
    for _, episode in read_lines(file):
        indices = kept.setdefault((episode.split, episode.setting), {})
        if limit is None or episode.index in indices or len(indices) < limit:
            indices[episode.index] = None
            yield episode
    if not kept:
        raise IclError(f"{file} holds no episodes; name another under `episodes.file`.")


def _suits(config: ExperimentConfig, family: TaskFamily, episode: Episode) -> Episode:
    """Return an episode that all learners can take part in.

    Raises:
        IclError: a learner would say what labels are that are to mean nothing, or cannot write
            where answers are written; or what a metric needs is not installed.
    """
    if is_abstract(episode.setting):
        for name, learner in config.learners.items():
            words = getattr(learner.params(), "words", None)
            if words == "name" or isinstance(words, Mapping):
                raise IclError(
                    f"The learner {name!r} sets `words`, which would stand in place of those of"
                    " `variants: abstract-labels`, that mean nothing; drop one of the two."
                )
    if episode.kind.writes:
        for name, learner in config.learners.items():
            if not writes(learner.method):
                raise IclError(cannot_write(name, learner.method, episode.task))
    if not episode.kind.measures(episode.labels):  # saved before episodes said their metrics
        task = family.load(episode.task, episode.query_language)
        episode = replace(episode, kind=task.kind.in_episode)
    return episode


def training_sampler(
    config: ExperimentConfig, family: TaskFamily, entrant: Entrant
) -> EpisodeSampler:
    """Return the sampler that a meta-learner is trained on.

    Raises:
        IclError: the family cannot give what the training asks for; names the learner.
    """
    training = entrant.training or TrainingConfig()
    try:
        return EpisodeSampler(
            family,
            training.split,
            ways=training.ways or _training_ways(config),
            shots=[training.shots],
            queries=training.queries,
            setting=(
                Setting("training", training.support_language)
                if training.support_language
                else WITHIN
            ),
            languages=training.languages,
            seed=config.seed,
        )
    except IclError as error:
        raise IclError(f"The learner {entrant.name!r} cannot be meta-trained: {error}") from error


def _training_ways(config: ExperimentConfig) -> int:
    """Return the ways to train for: those asked for, or the most in the saved episodes."""
    asked = config.episodes
    if asked.ways is not None or asked.file is None:
        return asked.ways or 2
    return max(episode.ways for episode in _saved(Path(asked.file), None))


def write_outcome(run: RunFolder, *, command: str) -> Outcome:
    """Write the report of what a run's folder holds.

    Raises:
        IclError: the folder is no run's folder, is damaged, or holds no records yet.
    """
    from icl.evaluation.diagnosis import diagnose
    from icl.reporting import write_report

    learners = roster(run)
    episodes = whole_episodes(run)
    keys = {row["name"]: row["key"] for row in learners if row["key"]}
    config = run.read_yaml("config.yaml")
    with progress("Reporting", counted=False) as bar:
        bar.say("reading the records")
        records, spent = run.records(keys, list(episodes.fingerprints())), meta_training(learners)
        bar.say("answering questions")
        answers = diagnose(
            records,
            learners=config.get("learners"),
            meta_training=spent,
            logs=training_logs(run.path, learners),
        )
        bar.say("writing tables and the page")
        report = write_report(
            run.path,
            records,
            config=config,
            environment=run.read_derived("environment.json"),
            meta_training=spent,
            command=command,
            episodes=episodes.find,
            answers=answers,
        )
    return Outcome(records, spent, report)


def _entrant(name: str, learner: LearnerConfig) -> Entrant:
    complete = learner.complete()
    return Entrant(name, complete.method, complete.params(), complete.training)


def make_model(config: ModelConfig, processes: Processes = ALONE) -> Model:
    """Return a configured model, to be loaded when something has to be computed.

    Each of several processes loads its own, on its own device, and takes its part of the memory.
    """
    if config.server is not None:
        return _served(config, config.server)

    def load() -> base.Model:
        from transformers.utils import logging

        from icl.models.loading.own_model import load_model

        # Reading the weights takes a moment and would tear our bar; downloads still show theirs.
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        asked = config.model_dump(exclude={"server"})
        if config.device_map is not None and processes.neighbours > 1:
            raise IclError(
                "`model.device_map` gives one model all devices of a machine, and"
                f" {processes.neighbours} processes run on this one; run one, or drop it."
            )
        if processes.count > 1:
            asked["device"] = config.device or processes.device
        model = load_model(**asked)
        if processes.neighbours > 1 and model.device.type == "cpu":
            model.share(processes.neighbours)
        return model

    if is_own(config.name):  # which tells who it is when it is made
        return Model(load, foresee=config.foresee)
    deciding = config.model_dump(include={"revision", "dtype", "quantise", "trust_remote_code"})
    foretell = partial(model_identity, config.name, **deciding)
    return Model(load, foretell, partial(_foreseen, config.name, config.revision))


def _foreseen(name: str, revision: str | None) -> base.Sketch | None:
    from icl.models.loading.own_model import foresee

    return foresee(name, revision)


def _served(config: ModelConfig, server: ServerConfig) -> Model:
    def load() -> base.Model:
        from icl.models.server.model import ServerModel

        return ServerModel(config.name, server, revision=config.revision)

    # Only the server knows what it serves today: it is asked each time.
    return Model(load)

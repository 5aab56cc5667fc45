"""The one road of an experiment: learners on episodes, a folder with their records, a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, RunConfig
from icl.experiments.episodes import (
    iterate_episodes,
    prepare_family,
    training_sampler,
)
from icl.experiments.models import make_models
from icl.experiments.tuning import Trials, draw, trial_name, trials_config, tune
from icl.processes import ALONE, Processes
from icl.reporting.comparison import Comparison
from icl.runs.entrants import Entrant, Handle
from icl.runs.finished import FinishedRun, read_run
from icl.runs.folder import EPISODES, RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.runner import Runner
from icl.tasks import TaskFamily
from icl.tools.progress import progress
from icl.tools.trackers import Trackers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Experiment:
    """What every way of running something comes down to: learners on the same episodes.

    Attributes:
        config: what the run's folder says of it.
        entrants: the learners, each with its model, in the report's order.
        episodes: what they are compared on, drawn as they are asked for.
        trials: by which the learners' values are chosen first; None: they are as configured.
    """

    config: RunConfig
    entrants: Sequence[Entrant]
    episodes: Iterable[Episode]
    trials: Trials | None = None


def carry_out(
    experiment: Experiment,
    folder: Path,
    report: Callable[[FinishedRun], T],
    *,
    processes: Processes = ALONE,
    track: Sequence[str] = (),
) -> T | None:
    """Do what is left of an experiment in a folder, and report what the folder then holds.

    Args:
        experiment: what is to be done.
        folder: where records, checkpoints and the report go; see `RunFolder`.
        report: tells what was found, while the folder is still held; the main process does it.
        processes: that share the work, each of which calls this with the same arguments on a
            folder that all of them see.
        track: names of trackers that are told the figures, see `Trackers`.

    Returns:
        What `report` returns; None in all processes but the main one.

    Raises:
        IclError: for everything that the user can mend.
    """
    config, main = experiment.config, processes.main
    run, found = RunFolder(folder, processes.index), None
    with run.locked() if main else nullcontext():
        if main:
            run.begin(config.to_yaml())
        with Trackers(track if main else (), folder, config.name, config.resolved()) as trackers:
            entrants = experiment.entrants
            if experiment.trials is not None:
                trials = experiment.trials
                entrants = tune(trials, entrants, run, processes, trackers.line)
            Runner(
                run,
                entrants,
                experiment.episodes,
                config.to_yaml(),
                processes,
                trackers.line,
            ).run()
            if main:
                finished = read_run(run)
                trackers.accuracies(_accuracies(finished.records))
                found = report(finished)
        processes.meet()
    return found


def _accuracies(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Return each learner's mean over episodes of accuracy, or of the first metric of texts."""
    found: dict[str, list[float]] = {}
    for record in records:
        if not record.changed:
            found.setdefault(record.learner, []).append(record.score)
    return {name: sum(values) / len(values) for name, values in found.items()}


def prepare(
    config: ExperimentConfig, limit: int | None = None, processes: Processes = ALONE
) -> Experiment:
    """Make an experiment of its configuration; no model is loaded and no episode drawn yet.

    Args:
        config: the experiment.
        limit: at most so many episodes of each setting; they are the first of the whole run's.
        processes: that will share the work.

    Raises:
        IclError: the tasks are not at hand, or cannot give what is asked for.
    """
    family = prepare_family(config)
    models, trials = make_models(config, processes), None
    if config.tuning is not None:
        episodes, drawn = draw(config, family, limit, check=processes.main)
        tried = trials_config(config, drawn)
        own = {trial_name(n, i): models[n] for n in drawn for i in range(len(drawn[n]))}
        trials = Trials(config, tried, drawn, entrants_of(tried, family, own), episodes)
    entrants = entrants_of(config, family, models)
    return Experiment(config, entrants, iterate_episodes(config, family, limit), trials)


def entrants_of(
    config: ExperimentConfig, family: TaskFamily, models: Mapping[str, Handle]
) -> list[Entrant]:
    """Return an experiment's learners, each on its model, which `models` holds by learner.

    Raises:
        IclError: there are no training episodes such as a learner asks for.
    """
    entrants = []
    for name, learner in config.learners.items():
        complete = learner.complete()
        training = complete.training
        sampler = None if training is None else training_sampler(config, family, name, training)
        params = complete.params()
        model = models[name]
        entrants.append(Entrant(name, complete.method, params, model, training, sampler))
    return entrants


def run_experiment(
    config: ExperimentConfig,
    folder: Path,
    *,
    command: str,
    limit: int | None = None,
    processes: Processes = ALONE,
    track: Sequence[str] = (),
) -> Comparison:
    """Run an experiment in a folder, or what is left of it, and write its report.

    Args:
        config: the experiment.
        folder, processes, track: see `carry_out`.
        command: how the user started it; stands in the report.
        limit: at most so many episodes of each setting; they are the first of the whole run's.

    Returns:
        What the run has found so far; nothing in all processes but the main one.

    Raises:
        IclError: for everything that the user can mend.
    """
    check_processes(config, processes.count)
    _check_limit(config, folder, limit)
    experiment = prepare(config, limit, processes)
    told = partial(write_outcome, command=command)
    found = carry_out(experiment, folder, told, processes=processes, track=track)
    return found or Comparison(())


def check_processes(config: ExperimentConfig, count: int) -> None:
    """Raise `IclError` where an experiment cannot be run by several processes."""
    served = [name for name, model in config.by_name.items() if model.server is not None]
    if served and count > 1:
        field = f"models.{served[0]}" if config.models else "model"
        raise IclError(
            "A model on a server is asked by one process, which keeps to its pace and budget;"
            f" raise `{field}.server.concurrency` instead of starting more processes."
        )


def _check_limit(config: ExperimentConfig, folder: Path, limit: int | None) -> None:
    """Raise `IclError` where fewer episodes would replace the only ones that there are."""
    saved = config.episodes.file
    if limit is not None and saved and Path(saved).resolve() == (folder / EPISODES).resolve():
        raise IclError(
            f"With --limit the episodes in {folder} would be lost, which stand nowhere else; drop"
            " it, or give another folder with --out."
        )


def write_outcome(found: FinishedRun, *, command: str) -> Comparison:
    """Write the report of what a run's folder holds.

    Raises:
        IclError: there is nothing to compare, or the report cannot be written.
    """
    from icl.evaluation.diagnosis import diagnose_run
    from icl.reporting import write_report

    run = RunFolder(found.folder)
    with progress("Reporting", counted=False) as bar:
        bar.say("answering questions")
        answers = diagnose_run(found)
        bar.say("writing tables and the page")
        write_report(
            found.folder,
            found.records,
            config=found.config,
            environment=run.read_derived("environment.json"),
            meta_training=found.meta_training,
            models=found.models,
            command=command,
            episodes=run.episodes().find,
            answers=answers,
            tuning=found.tuning,
        )
    return Comparison.of(found)

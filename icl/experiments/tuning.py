"""Equal effort: each learner's values are chosen by as many trials, on validation episodes.

The trials are an experiment of their own, in the folder ``tuning`` of the run's: its learners are
the trials, its episodes those of validation. The runner does it as any other, so that it is
resumed, shared by processes, keyed and checked as a run is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import fsum
from pathlib import Path
from typing import Any

from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.apart import check_apart
from icl.experiments.config import ExperimentConfig
from icl.experiments.episodes import iterate_episodes
from icl.experiments.learner_config import LearnerConfig
from icl.experiments.model_config import ModelConfig
from icl.experiments.search import Values, draw_trials
from icl.processes import ALONE, Processes
from icl.runs.entrants import Entrant, by_model
from icl.runs.finished import FinishedRun, read_run
from icl.runs.folder import FINISHED, RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.roster import read_roster
from icl.runs.runner import Runner
from icl.runs.trials import TRIALS, Trial, Tuned, Tuning
from icl.tasks import TaskFamily
from icl.tools.disk import draft_of

_DIGITS = 12  # of a mean score; what differs behind them is rounding, and no lead

Drawn = Mapping[str, Sequence[Values]]


def trial_name(learner: str, number: int) -> str:
    """Name a trial in the trials' own run.

    >>> trial_name("lora", 0)
    'lora #0'
    """
    return f"{learner} #{number}"


def validation_config(config: ExperimentConfig) -> ExperimentConfig:
    """Return the same experiment on its validation episodes, without tuning."""
    assert config.tuning is not None
    update = {
        "name": f"{config.name}-tuning",
        "episodes": config.tuning.validation(config.episodes),
        "tuning": None,
        "learners": {name: own.with_values({}) for name, own in config.learners.items()},
    }
    return config.model_copy(update=update)


def draw(
    config: ExperimentConfig, family: TaskFamily, limit: int | None = None, *, check: bool = True
) -> tuple[Sequence[Episode], Drawn]:
    """Draw the validation episodes, and the values of each learner's trials.

    Args:
        config: the experiment.
        family: its tasks.
        limit: at most so many episodes of each setting.
        check: whether to look for what is asked at test, see `check_apart`.

    Raises:
        IclError: there are no such episodes, they overlap the test's, or a learner's search names
            what its method does not have.
    """
    try:
        episodes = list(iterate_episodes(validation_config(config), family, limit))
    except IclError as error:
        raise IclError(f"The validation episodes of `tuning` cannot be drawn: {error}") from error
    if check:
        check_apart(config, family, episodes)
    return episodes, draw_values(config, episodes)


def draw_values(config: ExperimentConfig, episodes: Iterable[Episode]) -> Drawn:
    """Return the values of each learner's trials.

    Args:
        config: the experiment.
        episodes: of validation: values that a method declares and that their tasks rule out, as
            those of labels where answers are written, are left out.

    Raises:
        IclError: a learner's search names what its method does not have.
    """
    assert config.tuning is not None
    posed = [episode.posed() for episode in _first(episodes)]
    found = {}
    for name, learner in config.learners.items():
        try:
            learner.check_search()
        except IclError as error:
            raise IclError(f"The learner {name!r}: {error}") from error

        model = config.model_of(name)

        def apply(
            values: Values, learner: LearnerConfig = learner, model: ModelConfig = model
        ) -> None:
            made = learner.with_values(values)
            if learner.search is None:
                made.check_model(model)
                for episode in posed:
                    made.params().check_task(episode.labels, episode.support)

        found[name] = draw_trials(
            learner.choices(),
            learner.values(),
            apply,
            count=config.tuning.trials,
            seed=config.seed,
        )
    return found


def _first(episodes: Iterable[Episode]) -> list[Episode]:
    """Return an episode of each task and language."""
    return list({(e.task, e.support_language): e for e in episodes}.values())


def trials_config(config: ExperimentConfig, drawn: Drawn) -> ExperimentConfig:
    """Return the experiment that the trials are; it runs as it stands."""
    learners = {
        trial_name(name, number): config.learners[name].with_values(values)
        for name, trials in drawn.items()
        for number, values in enumerate(trials)
    }
    return validation_config(config).model_copy(update={"learners": learners})


def choose(config: ExperimentConfig, drawn: Drawn, folder: RunFolder) -> Tuning:
    """Choose each learner's values by the records of its trials.

    Args:
        config: the experiment.
        drawn: the values of each learner's trials.
        folder: of the trials' run, which is done.

    Raises:
        IclError: a trial has not been judged on every validation episode.
    """
    assert config.tuning is not None
    found = read_run(folder)
    by_trial: dict[str, list[EpisodeRecord]] = {}
    for record in found.records:
        by_trial.setdefault(record.learner, []).append(record)
    learners = {}
    for name, values in drawn.items():
        trials = tuple(
            _trial(trial_name(name, number), own, found, by_trial)
            for number, own in enumerate(values)
        )
        best = max(range(len(trials)), key=lambda i: (trials[i].score, -i))
        learners[name] = Tuned(dict(config.learners[name].choices()), trials, best)
    return Tuning(
        trials=config.tuning.trials,
        split=config.tuning.split,
        episodes=len(found.fingerprints),
        fingerprint=folder.episodes().digest,
        metric=found.records[0].metrics[0],
        learners=learners,
    )


def _trial(
    name: str, values: Values, found: FinishedRun, by_trial: Mapping[str, list[EpisodeRecord]]
) -> Trial:
    records = by_trial.get(name, [])
    if len(records) < len(found.fingerprints):
        raise IclError(f"{found.folder} lacks records of the trial {name!r}; run it again.")
    trained = found.meta_training.get(name, {"seconds": 0.0, "tokens": 0.0})
    return Trial(
        values=dict(values),
        score=round(fsum(record.score for record in records) / len(records), _DIGITS),
        seconds=fsum(record.cost.seconds for record in records) + trained["seconds"],
        tokens=sum(record.cost.computed_tokens for record in records) + trained["tokens"],
        key=records[0].learner_key,
    )


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of an experiment, to be carried out before it.

    Attributes:
        of: the experiment whose learners they are of.
        config: the experiment that they are.
        drawn: the values of each learner's trials.
        entrants: the trials.
        episodes: of validation.
    """

    of: ExperimentConfig
    config: ExperimentConfig
    drawn: Drawn
    entrants: Sequence[Entrant]
    episodes: Sequence[Episode]


def tune(
    trials: Trials,
    entrants: Sequence[Entrant],
    run: RunFolder,
    processes: Processes = ALONE,
    track: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> list[Entrant]:
    """Carry out what is left of the trials, and return the learners with their chosen values.

    The chosen meta-trainings are not done again: they are handed on to the experiment's folder.

    Args:
        trials: of an experiment.
        entrants: its learners as they are configured.
        run: its folder.
        processes, track: see `icl.runs.runner.Runner`.

    Raises:
        IclError: a trial failed (the records so far are kept), or a folder cannot be written.
    """
    folder = RunFolder(run.path / TRIALS, processes.index)
    with folder.locked() if processes.main else nullcontext():
        Runner(
            folder,
            trials.entrants,
            trials.episodes,
            trials.config.to_yaml(),
            processes,
            track,
            title="Tuning",
        ).run()
        models = by_model(trials.entrants)
        for model in models if len(models) > 1 else ():
            model.release()  # the run begins with the first alone
        found = processes.on_main(partial(_settle, trials, folder, run))
    by_name = {trial.name: trial for trial in trials.entrants}
    return [
        replace(by_name[trial_name(entrant.name, own["trial"])], name=entrant.name, tuned=own)
        for entrant in entrants
        for own in [found[entrant.name]]
    ]


def _settle(trials: Trials, folder: RunFolder, run: RunFolder) -> dict[str, Any]:
    """Choose, and write what was chosen; return by learner what its row in the roster will say."""
    tuning = choose(trials.of, trials.drawn, folder)
    tuning.write(run)
    rows = {row["name"]: row for row in read_roster(folder)}
    for name, own in tuning.learners.items():
        trained = rows[trial_name(name, own.chosen)].get("folder")
        if trained:
            _hand_on(folder.path / trained, run.path / trained)
    return {name: tuning.row(name) for name in tuning.learners}


def _hand_on(source: Path, target: Path) -> None:
    """Copy a finished meta-training, what says that it is finished at the end."""
    if (target / FINISHED).is_file():
        return
    files = sorted(source.iterdir(), key=lambda path: path.name == FINISHED)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            with draft_of(target / file.name) as draft:
                shutil.copyfile(file, draft)
                draft.replace(target / file.name)
    except OSError as error:
        raise IclError(
            f"Cannot write {target} ({error.strerror or error}); free some space or give another"
            " folder with --out."
        ) from error

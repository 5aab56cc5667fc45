"""The episodes of an experiment: those that learners are compared on, and those to train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.episodes.files import EPISODES, check_lines, open_episodes, read_lines
from icl.episodes.setting import WITHIN
from icl.episodes.splits import without_leaks
from icl.episodes.variants import VARIANTS
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig
from icl.tasks import TaskFamily, load_family
from icl.tasks.loaded import Task
from icl.training import TrainingConfig


def prepare_family(config: ExperimentConfig) -> TaskFamily:
    """Load the experiment's tasks, without what leaks between splits if it says so.

    Raises:
        IclError: no such family or template, or data that are not at hand.
    """
    tasks = config.tasks
    if tasks is None:
        return TaskFamily("", _no_task, {})
    family = load_family(tasks.family, data=tasks.data, template=tasks.template)
    return without_leaks(family, config.episodes.near) if config.episodes.drop_leaks else family


def _no_task(task: str, language: str) -> Task:
    raise IclError(
        f"The task {task!r} is at hand by its episodes only; name its family under `tasks`, or give"
        " `icl.compare` its `family`."
    )


def iterate_episodes(
    config: ExperimentConfig, family: TaskFamily, limit: int | None = None
) -> Iterator[Episode]:
    """Draw the episodes that learners are compared on, or read the saved ones, one at a time.

    Raises:
        IclError: the family cannot give what the configuration asks for, which is checked at once;
            or the saved episodes are damaged or leak.
    """
    asked, ready = config.episodes, partial(measured, family)
    if asked.file is not None:
        return map(ready, _saved(Path(asked.file), limit))
    count = asked.count or 0
    count = count if limit is None else min(limit, count)
    return (
        ready(episode if change is None else change(episode))
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


def measured(family: TaskFamily, episode: Episode) -> Episode:
    """Return an episode that says its metrics: those saved long ago leave them to their task.

    Raises:
        IclError: a library that a metric needs is not installed.
    """
    if episode.kind.measures(episode.labels):
        return episode
    task = family.load(episode.task, episode.query_language)
    return replace(episode, kind=task.kind.in_episode)


def training_sampler(
    config: ExperimentConfig, family: TaskFamily, name: str, training: TrainingConfig
) -> EpisodeSampler:
    """Return the sampler that a meta-learner is trained on.

    Raises:
        IclError: the family cannot give what the training asks for, or there is none; names the
            learner.
    """
    if not family.splits:
        raise IclError(
            f"The learner {name!r} is meta-trained first; name the family that its training"
            " episodes come from under `tasks`, or give `icl.compare` its `family`."
        )
    language = training.support_language
    try:
        return EpisodeSampler(
            family,
            training.split,
            ways=training.ways or _training_ways(config),
            shots=[training.shots],
            queries=training.queries,
            setting=Setting("training", language) if language else WITHIN,
            languages=training.languages,
            seed=config.seed,
        )
    except IclError as error:
        raise IclError(f"The learner {name!r} cannot be meta-trained: {error}") from error


def _training_ways(config: ExperimentConfig) -> int:
    """Return the ways to train for: those asked for, or the most in the saved episodes."""
    asked = config.episodes
    if asked.ways is not None or asked.file is None:
        return asked.ways or 2
    return max(episode.ways for episode in _saved(Path(asked.file), None))

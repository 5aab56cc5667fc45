"""A prompt study from its configuration to its report: a grid of prompts on fixed episodes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.errors import IclError
from icl.evaluation.sensitivity import SHOTS, Sensitivity, sensitivity
from icl.experiments.config import RunConfig
from icl.experiments.experiment import Experiment, carry_out
from icl.experiments.model_config import ModelConfig
from icl.experiments.models import make_model
from icl.learners.registry import validate
from icl.runs.entrants import Entrant, Handle
from icl.runs.finished import FinishedRun
from icl.tasks import TaskFamily, load_family
from icl.tasks.sources.schema import Strict
from icl.tools.yamlfile import fault, load_yaml, read_yaml

METHOD = "in-context"
JOIN = " · "


class EpisodeSet(Strict):
    """Which episodes: so many of a meta-split."""

    split: str
    count: int = Field(ge=2)


class StudyEpisodes(Strict):
    """The fixed episodes of a study.

    Attributes:
        ways, shots, queries, tasks, pool: see `EpisodeSampler`; shots are a factor.
        languages: of the test episodes' queries.
        support_language: support always in this language; by default in the queries'.
        validation: where the best prompt is chosen.
        test: where everything is measured.
    """

    ways: int = Field(ge=2)
    shots: tuple[int, ...] = Field(min_length=1)
    queries: int = Field(ge=1)
    pool: int = Field(default=0, ge=0)
    tasks: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    support_language: str | None = None
    validation: EpisodeSet
    test: EpisodeSet

    @field_validator("shots")
    @classmethod
    def _shots_are_different(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if min(shots) < 0 or len(set(shots)) < len(shots):
            raise ValueError("give different numbers, 0 or more")
        return shots

    @model_validator(mode="after")
    def _splits_differ(self) -> StudyEpisodes:
        if self.validation.split == self.test.split:
            raise ValueError(
                f"validation and test are both {self.test.split!r}: a prompt would be judged where "
                "it was chosen; name two splits"
            )
        return self


class StudyConfig(RunConfig):
    """A prompt study; `tasks` must be given.

    Attributes:
        factors: by name, either values of the `in-context` parameter of that name, or level names
            with the parameters that each sets. Every combination is tried; the first levels make
            the default prompt.
        fixed: parameters of `in-context` that all prompts share.
    """

    model: ModelConfig
    episodes: StudyEpisodes
    factors: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(min_length=1)
    fixed: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _episodes_have_tasks(self) -> StudyConfig:
        if self.tasks is None:
            raise fault("`tasks` is missing; add it")
        return self

    @field_validator("factors")
    @classmethod
    def _levels_differ(cls, factors: dict[str, Any]) -> dict[str, Any]:
        for name, levels in factors.items():
            if name == SHOTS:
                raise ValueError("shots are a factor already: give them under `episodes.shots`")
            if not levels or len(set(map(str, levels))) < len(levels):
                raise ValueError(f"the factor {name!r} needs different levels, one at least")
        return factors

    def levels(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return each factor's levels by name, with the parameters that they set."""
        return {
            name: dict(levels)
            if isinstance(levels, dict)
            else {str(value): {name: value} for value in levels}
            for name, levels in self.factors.items()
        }

    def prompts(self) -> dict[str, dict[str, str]]:
        """Return every prompt's levels by factor, the default prompt first."""
        levels = self.levels()
        return {
            JOIN.join(combination): dict(zip(levels, combination, strict=True))
            for combination in product(*levels.values())
        }

    def entrants(self, model: Handle) -> list[Entrant]:
        """Return the prompts as learners.

        Raises:
            IclError: a parameter is unknown, or two do not fit; names the prompt.
        """
        levels, entrants = self.levels(), []
        for prompt, chosen in self.prompts().items():
            params: dict[str, Any] = dict(self.fixed)
            for factor, level in chosen.items():
                params |= levels[factor][level]
            try:
                entrants.append(Entrant(prompt, METHOD, validate(METHOD, params), model))
            except IclError as error:
                raise IclError(f"The prompt {prompt!r} cannot be written: {error}") from error
        return entrants


def is_study(path: Path) -> bool:
    """Tell whether a YAML file holds a prompt study, and no experiment of other learners."""
    data, _ = read_yaml(path)
    return isinstance(data, dict) and "factors" in data


def load_study(path: Path) -> StudyConfig:
    """Read a study and check all that can be checked before data or model are touched.

    Raises:
        IclError: the message names the file, the field and the mend.
    """
    data, _ = read_yaml(path)
    if isinstance(data, dict) and "learners" in data:
        raise IclError(f"{path} is an experiment, not a prompt study; run it with `icl run`.")
    if isinstance(data, dict) and "models" in data:
        raise IclError(
            f"{path}, field 'models': a prompt study is of one model; name it under `model`, and"
            " compare learners on several with `icl run`."
        )
    study = load_yaml(path, StudyConfig)
    try:
        study.model.check_name()
        study.entrants(make_model(study.model))
    except IclError as error:
        raise IclError(f"{path}: {error}") from error
    return study


def draw(study: StudyConfig, family: TaskFamily, limit: int | None = None) -> list[Episode]:
    """Draw the study's episodes, validation first.

    Raises:
        IclError: the family cannot give what the study asks for.
    """
    asked = study.episodes
    found: list[Episode] = []
    for part in (asked.validation, asked.test):
        sampler = EpisodeSampler(
            family,
            part.split,
            ways=asked.ways,
            shots=asked.shots,
            queries=asked.queries,
            setting=Setting("prompts", asked.support_language),
            tasks=asked.tasks,
            pool=asked.pool,
            languages=asked.languages if part is asked.test else None,
            seed=study.seed,
        )
        count = part.count if limit is None else min(limit, part.count)
        found += sampler.episodes(count)
    return found


def run_study(
    study: StudyConfig, folder: Path, *, command: str, limit: int | None = None
) -> tuple[Sensitivity, Path]:
    """Run a study in a folder, or what is left of it; return its figures and its page.

    Args:
        study: the study.
        folder: where records and the page go; a study that was killed goes on where it was.
        command: how the user started it; stands on the page.
        limit: at most so many episodes of each set.

    Raises:
        IclError: for everything that the user can mend.
    """
    from icl.reporting.prompts_page import write_prompts_page

    def report(run: FinishedRun) -> tuple[Sensitivity, Path]:
        found = sensitivity(
            run.records,
            study.prompts(),
            validation=study.episodes.validation.split,
            test=study.episodes.test.split,
        )
        config = study.to_yaml()
        page = write_prompts_page(folder, found, title=study.name, config=config, command=command)
        return found, page

    assert study.tasks is not None
    family = load_family(study.tasks.family, data=study.tasks.data)
    episodes = draw(study, family, limit)
    for episode in episodes:
        if not episode.kind.single:
            raise IclError(
                f"A prompt study compares accuracies of single labels, which {episode.task!r} has"
                " not; name other tasks under `episodes.tasks`, or compare prompts as learners"
                " of `icl run`."
            )
    entrants = study.entrants(make_model(study.model))
    done = carry_out(Experiment(study, entrants, episodes), folder, report)
    assert done is not None
    return done

"""The experiment's schema: one YAML file, checked to the end before any model loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from icl.episodes.schema import EpisodesConfig
from icl.errors import IclError, did_you_mean, one_line
from icl.experiments.learner_config import LearnerConfig
from icl.experiments.model_config import ModelConfig, check_models
from icl.experiments.tuning_schema import TuningConfig
from icl.tasks.sources.schema import Strict
from icl.tools.overrides import assign, parse, shown
from icl.tools.yamlfile import Loc, Places, fault, read_yaml, spot, validate

SCHEMA_VERSION = 1
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

RunT = TypeVar("RunT", bound="RunConfig")


class TasksConfig(Strict):
    """Where the tasks come from: see `load_family`, which takes the same fields."""

    family: str
    data: str | None = None
    template: str | None = None


class RunConfig(Strict):
    """What the ``config.yaml`` of every run's folder says, whatever the learners are.

    Attributes:
        schema_version: of this schema.
        name: the run folder's name, unless the user gives another.
        seed: of all episodes.
        model: that all learners share; None where there are several.
        tasks: None where all episodes are saved ones and nothing is drawn.
    """

    schema_version: Literal[1]
    name: str
    seed: int = Field(default=0, ge=0)
    model: ModelConfig | None = None
    tasks: TasksConfig | None = None

    @field_validator("name")
    @classmethod
    def _name_can_be_a_folder(cls, name: str) -> str:
        if not _FOLDER.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a folder; take letters, digits, '-', '_', '.'")
        return name

    def resolved(self) -> dict[str, Any]:
        """Return the experiment as plain values, complete with defaults."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Write the experiment as YAML, complete with defaults: it runs as it stands."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)

    def with_data(self: RunT, directory: Path | None) -> RunT:
        """Return the same experiment on data from another directory, if one is given."""
        if directory is None or self.tasks is None:
            return self
        tasks = self.tasks.model_copy(update={"data": str(directory)})
        return self.model_copy(update={"tasks": tasks})

    def folder(self, out: Path | None) -> Path:
        """Return where the run goes: the folder that was asked for, or ``runs/<name>``."""
        return out if out is not None else Path("runs") / self.name


class ExperimentConfig(RunConfig):
    """An experiment: which learners are compared, with which models, on which episodes.

    Attributes:
        models: in place of `model`, several by their names in the report.
        learners: by their names in the report, in its order.
        tuning: how values are searched for first; None: all learners run with those given here.
    """

    models: Mapping[str, ModelConfig] | None = None
    episodes: EpisodesConfig
    tuning: TuningConfig | None = None
    learners: Mapping[str, LearnerConfig] = Field(min_length=1)

    @field_validator("learners")
    @classmethod
    def _names_can_be_shown(
        cls, learners: Mapping[str, LearnerConfig]
    ) -> Mapping[str, LearnerConfig]:
        for name in learners:
            if not name.strip() or one_line(name) != name:
                raise ValueError(f"{name!r} cannot name a learner; take letters that can be shown")
        return learners

    @model_validator(mode="after")
    def _drawn_episodes_have_tasks(self) -> ExperimentConfig:
        if self.tasks is None and self.episodes.file is None:
            raise fault("`tasks` is missing; add it, or name saved episodes under `episodes.file`")
        return self

    @model_validator(mode="after")
    def _tuning_is_apart(self) -> ExperimentConfig:
        if self.tuning is not None:
            self.tuning.check(self.episodes, self.tasks is not None)
            return self
        for name, learner in self.learners.items():
            if learner.search is not None:
                told = "`search` is for `tuning`, which is missing; add it, or drop this"
                raise fault(told, "learners", name, "search")
        return self

    @model_validator(mode="after")
    def _learners_have_models(self) -> ExperimentConfig:
        check_models(self.model, self.models, {n: lr.model for n, lr in self.learners.items()})
        return self

    @property
    def by_name(self) -> Mapping[str, ModelConfig]:
        """The models by their names in the report."""
        return self.models or {m.called: m for m in (self.model,) if m is not None}

    def label_of(self, learner: str) -> str:
        """Return the name in the report of the model that a learner is on."""
        return self.learners[learner].model or next(iter(self.by_name))

    def model_of(self, learner: str) -> ModelConfig:
        """Return the model that a learner is on."""
        return self.by_name[self.label_of(learner)]

    def resolved(self) -> dict[str, Any]:
        """Return the experiment as plain values, complete with defaults."""
        one = self.model_dump(mode="json", exclude={"learners"})
        if self.tuning is None:
            del one["tuning"]
        several = one.pop("models")
        data = {"models" if key == "model" and several else key: one[key] for key in one}
        data |= {"models": several} if several else {}
        data["learners"] = {}
        for name, learner in self.learners.items():
            own = learner.complete().model_dump(mode="json")
            own["model"] = self.label_of(name) if several else None
            optional = {"training", "model", "search"}
            data["learners"][name] = {
                key: value for key, value in own.items() if not (key in optional and value is None)
            }
        return data


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment and check all that can be checked before data or model are touched.

    Args:
        path: the YAML file.
        overrides: fields to set, as ``learners.lora.steps=20``; see `icl.tools.overrides`.

    Raises:
        IclError: the message names the file and the line, or the override, the field and the mend.
    """
    data, lines = read_yaml(path)
    if not isinstance(data, dict):
        raise IclError(
            f"{path} holds no experiment; it needs `schema_version`, `name`, `model`, `tasks`,"
            " `episodes` and `learners`."
        )
    if "factors" in data:
        raise IclError(f"{path} is a prompt study; run it with `icl prompts`.")
    places: Places = {loc: (path, line) for loc, line in lines.items()}
    for assignment in overrides:
        _check_named(data, assignment)
        data, places = assign(data, places, assignment)
    config = validate(data, places, ExperimentConfig)
    checks: list[tuple[Loc, Callable[[], None]]] = [
        ((*(("models", name) if config.models else ("model",)), "name"), model.check_name)
        for name, model in config.by_name.items()
    ]
    for name, learner in config.learners.items():
        checks.append((("learners", name, "method"), learner.check_method))
        checks.append((("learners", name), learner.check))
        suits = partial(learner.check_model, config.model_of(name))
        checks.append((("learners", name, "method"), suits))
        if config.tuning is not None:
            checks.append((("learners", name, "search"), learner.check_search))
    for part, check in checks:
        try:
            check()
        except IclError as error:
            where = (*part, *_field_at_fault(error))
            field = ".".join(map(str, where))
            raise IclError(f"{spot(_place(places, where))}, field {field!r}: {error}") from error
    return config


_NEW = {"learners": "method", "models": "name"}  # the field that makes a new one


def _check_named(data: Mapping[str, Any], assignment: str) -> None:
    """Raise `IclError` for a field of a learner or a model that is not there."""
    path, _ = parse(assignment)
    for part, makes in _NEW.items():
        held = data.get(part)
        known = held if isinstance(held, dict) else {}
        if path[0] == part and len(path) > 2 and path[2] != makes and path[1] not in known:
            raise IclError(
                f"{shown(assignment)}: there is no {part[:-1]} {path[1]!r}."
                f"{did_you_mean(path[1], known) if known else ''}"
            )


def _field_at_fault(error: IclError) -> Loc:
    """Return the place, within a part, of the first fault that pydantic found in it."""
    cause = error.__cause__
    return tuple(cause.errors()[0]["loc"]) if isinstance(cause, ValidationError) else ()


def _place(places: Places, where: Loc) -> tuple[Path, int]:
    """Return where a field stands, or the nearest one around it that stands somewhere."""
    while where not in places:
        where = where[:-1]
    return places[where]

"""The experiment's schema: one YAML file, checked to the end before any model loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from icl.episodes.schema import EpisodesConfig
from icl.errors import IclError, did_you_mean, one_line
from icl.experiments.search import TRAINING, check_names, check_values
from icl.experiments.tuning_schema import TuningConfig
from icl.learners import registry
from icl.learners.base import Params
from icl.models.base import PROMPTED, Sketch
from icl.models.packaged.catalogue import PACKAGED
from icl.models.server.config import ServerConfig
from icl.tasks.sources.schema import Strict
from icl.tools.overrides import assign, parse, shown
from icl.tools.own_class import is_own
from icl.tools.yamlfile import Loc, Places, fault, read_yaml, spot, validate
from icl.training import TrainingConfig

SCHEMA_VERSION = 1
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Spread = Literal["auto", "balanced", "balanced_low_0", "sequential"]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

RunT = TypeVar("RunT", bound="RunConfig")


class ModelConfig(Strict):
    """The backbone that all learners share; the fields are those of `load_backbone`.

    With `server`, the model is one that a server calls by this name, and stays there.
    """

    name: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str | None = None
    device_map: Spread | dict[str, int | str] | None = None
    quantise: Literal["4bit", "8bit"] | None = None
    trust_remote_code: bool = False
    server: ServerConfig | None = None

    @model_validator(mode="after")
    def _a_server_decides_for_itself(self) -> ModelConfig:
        local = self.dtype != "float32" or self.trust_remote_code
        places = (self.device, self.device_map, self.quantise)
        own = self.server is None and is_own(self.name)
        said = local or any(p is not None for p in places)
        if self.server is not None and said:
            raise ValueError(
                "`dtype`, `device`, `device_map`, `quantise` and `trust_remote_code` are for models"
                " on this machine; drop them, or drop `server`"
            )
        if own and (said or self.revision is not None):
            raise ValueError(
                f"{self.name!r} is a class of your own, which is made without arguments; keep"
                " `name` alone"
            )
        if self.device is not None and self.device_map is not None:
            raise ValueError("`device_map` names the devices; drop `device`")
        return self

    def foresee(self) -> Sketch | None:
        """Tell what the model will be able to do, where that is known before any file is read.

        Raises:
            IclError: it is somebody's own class, which cannot be imported or is no model.
        """
        if self.server is not None:
            return Sketch(self.name, "a model on a server", PROMPTED)
        if is_own(self.name):
            from icl.models.loading.own_model import foresee

            return foresee(self.name)
        return None

    def check_name(self) -> None:
        """Raise `IclError` for a name that no model can have, or a directory that is not there."""
        if self.name in PACKAGED or self.server is not None:
            return
        if is_own(self.name):
            self.foresee()
            return
        if self.name.startswith((".", "/", "~")):
            if not Path(self.name).expanduser().is_dir():
                raise IclError(f"the model directory {self.name!r} does not exist.")
        elif not _HUB_ID.fullmatch(self.name):
            raise IclError(
                f"{self.name!r} is neither a Hub id, nor a directory, nor a packaged model."
                + did_you_mean(self.name, PACKAGED)
            )


class TasksConfig(Strict):
    """Where the tasks come from: see `load_family`, which takes the same fields."""

    family: str
    data: str | None = None
    template: str | None = None


class LearnerConfig(BaseModel):
    """A learner: its method, the method's own parameters beside it, and its meta-training.

    Attributes:
        search: what `tuning` searches, in place of what the method declares: values by parameter,
            ``training.<field>`` for those of meta-training. Empty: nothing.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str
    training: TrainingConfig | None = None
    search: Mapping[str, tuple[JsonValue, ...]] | None = None

    def check_method(self) -> None:
        """Raise `IclError` for an unknown method."""
        with _inside_a_sentence():
            registry.learner_class(self.method)

    def check(self) -> None:
        """Raise `IclError` for a parameter, or for training, that the method does not take."""
        self.params().check_files()
        if self.training is not None and not registry.is_meta_learner(self.method):
            raise IclError(f"the method {self.method!r} is not meta-trained; drop `training`.")

    def check_model(self, model: ModelConfig) -> None:
        """Raise `IclError` for a method that needs what the model is known not to do."""
        sketch = model.foresee()
        if sketch is not None:
            with _inside_a_sentence():
                registry.check_model(self.method, self.params(), sketch)

    def params(self) -> Params:
        """Return the method's parameters, complete with defaults."""
        return registry.validate(self.method, self.model_extra or {})

    def with_values(self, values: Mapping[str, Any]) -> LearnerConfig:
        """Return the learner with these values, by parameter as in `search`, and none to search.

        Raises:
            IclError: the method takes no such parameter or value.
        """
        own = {name: v for name, v in values.items() if not name.startswith(TRAINING)}
        trained = {n.removeprefix(TRAINING): v for n, v in values.items() if n not in own}
        training = self.training
        if trained:
            begun = (training or TrainingConfig()).model_dump()
            try:
                training = TrainingConfig.model_validate({**begun, **trained})
            except ValidationError as error:
                raise IclError(f"{error.errors()[0]['msg']}.") from error
        made = self.model_copy(update={"training": training, "search": None, **own})
        made.check()
        return made

    def values(self) -> dict[str, Any]:
        """Return all that can be searched, by parameter as in `search`, as JSON values."""
        found = self.params().model_dump(mode="json")
        training = self.complete().training
        trained = {} if training is None else training.model_dump(mode="json")
        return found | {f"{TRAINING}{name}": value for name, value in trained.items()}

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """Return what is searched: what stands under `search`, else what the method declares."""
        return registry.learner_class(self.method).search if self.search is None else self.search

    def check_search(self) -> None:
        """Raise `IclError` for choices that the method does not have.

        Of those that it declares itself, values that what is configured rules out are left out.
        """
        check_names(self.choices(), self.values())
        if self.search is not None:
            check_values(self.search, self.with_values)

    def complete(self) -> LearnerConfig:
        """Return the same learner with every default written out."""
        training = self.training
        if training is None and registry.is_meta_learner(self.method):
            training = TrainingConfig()
        return LearnerConfig(
            method=self.method,
            training=training,
            search=self.search,
            **self.params().model_dump(),
        )


class RunConfig(Strict):
    """What the ``config.yaml`` of every run's folder says, whatever the learners are.

    Attributes:
        schema_version: of this schema.
        name: the run folder's name, unless the user gives another.
        seed: of all episodes.
        tasks: None where all episodes are saved ones and nothing is drawn.
    """

    schema_version: Literal[1]
    name: str
    seed: int = Field(default=0, ge=0)
    model: ModelConfig
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
    """An experiment: which learners are compared, with which model, on which episodes.

    Attributes:
        learners: by their names in the report, in its order.
        tuning: how values are searched for first; None: all learners run with those given here.
    """

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

    def resolved(self) -> dict[str, Any]:
        """Return the experiment as plain values, complete with defaults."""
        data = self.model_dump(mode="json", exclude={"learners"})
        if self.tuning is None:
            del data["tuning"]
        data["learners"] = {
            name: {
                key: value
                for key, value in learner.complete().model_dump(mode="json").items()
                if not (key in ("training", "search") and value is None)
            }
            for name, learner in self.learners.items()
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
        _check_learner(data, assignment)
        data, places = assign(data, places, assignment)
    config = validate(data, places, ExperimentConfig)
    checks: list[tuple[Loc, Callable[[], None]]] = [(("model", "name"), config.model.check_name)]
    for name, learner in config.learners.items():
        checks.append((("learners", name, "method"), learner.check_method))
        checks.append((("learners", name), learner.check))
        checks.append((("learners", name, "method"), partial(learner.check_model, config.model)))
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


@contextmanager
def _inside_a_sentence() -> Iterator[None]:
    """Let a fault begin in lower case: it is told behind the field that it is of."""
    try:
        yield
    except IclError as error:
        raise IclError(str(error)[0].lower() + str(error)[1:]) from error


def _check_learner(data: Mapping[str, Any], assignment: str) -> None:
    """Raise `IclError` for a field of a learner that is not there; a `method` makes a new one."""
    path, _ = parse(assignment)
    learners = data.get("learners")
    known = learners if isinstance(learners, dict) else {}
    if path[0] == "learners" and len(path) > 2 and path[2] != "method" and path[1] not in known:
        raise IclError(
            f"{shown(assignment)}: there is no learner {path[1]!r}.{did_you_mean(path[1], known)}"
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

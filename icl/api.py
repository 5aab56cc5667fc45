"""What a script or a notebook needs, in a few words: load, compare, run, open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.episodes import measured, prepare_family
from icl.experiments.experiment import (
    Experiment,
    carry_out,
    entrants_of,
    run_experiment,
    write_outcome,
)
from icl.experiments.learner_config import LearnerConfig
from icl.experiments.model_config import ModelConfig
from icl.experiments.models import given_model, given_models
from icl.learners.base import Learner, Params
from icl.reporting.comparison import Comparison
from icl.runs.entrants import Handle
from icl.runs.finished import read_run
from icl.runs.folder import EPISODES, RunFolder
from icl.tasks import TaskFamily, load_family
from icl.tools.shipped import find_config

if TYPE_CHECKING:
    from icl.models.base import Model

Given = tuple[ModelConfig, Handle]
Entry = str | Mapping[str, Any] | Learner
OFFLINE = "packaged:gemma-3-270m"


def load_task(
    name_or_path: str | Path, *, data: str | Path | None = None, template: str | None = None
) -> TaskFamily:
    """Load a family of tasks: one that icl brings along (`icl tasks list`), or a YAML file's.

    Args:
        name_or_path: the family's name, or its definition's path.
        data: the directory of a family that is read from local files.
        template: which of the tasks' named templates to use; by default each task's first.

    Raises:
        IclError: no such family or template, a definition that is not right, or data that are not
            at hand.
    """
    return load_family(str(name_or_path), data=data, template=template)


def load_model(
    name: str = OFFLINE,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
    quantise: Literal["4bit", "8bit"] | None = None,
) -> Model:
    """Load a model and its tokenizer; see `icl.models.loading.load.load_backbone`.

    Args:
        name: a Hub id, a local directory, a packaged model (extra ``offline``), or a class of your
            own, ``file.py:Class``, see docs/howto/own-model-class.md.
        revision: a Hub revision.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: a torch device; by default CUDA where there is one, else the CPU.
        device_map: lay a causal model's layers over several devices, main memory and disk, as
            accelerate does; ``auto`` fills the devices in turn.
        quantise: hold the layers' linear maps in so many bits (extra ``quantise``).

    Raises:
        IclError: the model is unknown, cannot be read, or cannot be run exactly.
    """
    from icl.models.loading import own_model

    return own_model.load_model(
        name,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        quantise=quantise,
    )


def compare(
    learners: Sequence[str] | Mapping[str, Entry],
    episodes: Sequence[Episode],
    model: str | Model | None = None,
    *,
    models: Mapping[str, str | Model] | None = None,
    family: TaskFamily | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Let learners learn every episode's task from its support set, and judge them on its queries.

    It is what ``icl run`` does of a configuration that names saved episodes: the folder is of the
    same kind, and what stands in it is not done again.

    Args:
        learners: methods' names; or by the name in tables a method's name, its parameters (with
            ``method`` where the name is another, and ``training`` for a meta-learner), or a
            `Learner` of your own. Yours are judged each time, since nothing tells what they have
            become since. Among several models a learner names its own, as in
            ``{"method": "prototypes", "model": "encoder"}`` or ``{"learner": yours, "model":
            "encoder"}``; the others are on the first.
        episodes: see `icl.episodes.draw`.
        model: that all methods share: a name, what `load_model` has returned, or an object of your
            own class; by default the packaged Gemma 3 270M.
        models: in its place several such, by what tables are to call them.
        family: where meta-learners find their training episodes, and old episodes their metrics.
        out: a run's folder to keep records, checkpoints and the report in; None keeps nothing.

    Raises:
        IclError: an unknown method, parameter or model, a model that no learner uses, a
            meta-learner without a family, no episodes, or a learner that fails on one of them.
    """
    episodes = list(episodes)
    if not episodes:
        raise IclError("There are no episodes to compare on; draw some with icl.episodes.draw.")
    entries = learners if isinstance(learners, Mapping) else {name: name for name in learners}
    if not entries:
        raise IclError("There are no learners to compare; name one, such as 'in-context'.")
    if model is not None and models is not None:
        raise IclError("`model` and `models` are both given; drop one of them.")
    several = None if models is None else given_models(models)
    one = given_model(OFFLINE if model is None else model) if several is None else None
    with TemporaryDirectory(prefix="icl-") if out is None else nullcontext(str(out)) as place:
        config = _config(entries, episodes, one, several, family, Path(place))
        given = prepare_family(config) if family is None else family
        made = {name: own for name, entry in entries.items() if (own := _own(entry)) is not None}
        held = {
            name: one[1] if one is not None else (several or {})[config.label_of(name)][1]
            for name in config.learners
        }
        entrants = [
            replace(entrant, made=made.get(entrant.name))
            for entrant in entrants_of(config, given, held)
        ]
        experiment = Experiment(config, entrants, [measured(given, e) for e in episodes])
        told = partial(write_outcome, command="icl.compare(...)")
        found = carry_out(experiment, Path(place), Comparison.of if out is None else told)
    return found or Comparison(())


def run(
    config: str | Path | ExperimentConfig,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
) -> Comparison:
    """Run an experiment, or what is left of it, as ``icl run`` does.

    Args:
        config: a YAML file, the name of an experiment that icl brings along, or its schema.
        out: the run's folder; by default ``runs/<the experiment's name>``.
        data: a local directory with the family's data.
        limit: at most so many episodes of each setting.

    Raises:
        IclError: for everything that the user can mend.
    """
    experiment = (
        config if isinstance(config, ExperimentConfig) else load_config(find_config(str(config)))
    ).with_data(None if data is None else Path(data))
    folder = experiment.folder(None if out is None else Path(out))
    return run_experiment(experiment, folder, command="icl.run(...)", limit=limit)


def open_run(folder: str | Path) -> Comparison:
    """Return what a run's folder holds; nothing is written there.

    Raises:
        IclError: it is no run's folder, is damaged, or holds no records yet.
    """
    return Comparison.of(read_run(RunFolder(Path(folder))))


class _Made(LearnerConfig):
    """A learner that somebody has made in Python: a file can name its class only."""

    def params(self) -> Params:
        return Params()

    def complete(self) -> LearnerConfig:
        return self


def _config(
    entries: Mapping[str, Entry],
    episodes: Sequence[Episode],
    one: Given | None,
    several: Mapping[str, Given] | None,
    family: TaskFamily | None,
    folder: Path,
) -> ExperimentConfig:
    """Return the configuration that says the same, of the episodes that will lie in the folder."""
    try:
        return ExperimentConfig.model_validate(
            {
                "schema_version": 1,
                "name": "compare",
                "seed": episodes[0].seed,
                "model": None if one is None else one[0],
                "models": None if several is None else {k: v[0] for k, v in several.items()},
                "tasks": None if family is None else family.loaded_as,
                "episodes": {
                    "file": str(folder / EPISODES),
                    "ways": max(2, *(episode.ways for episode in episodes)),
                },
                "learners": {
                    name: _learner(name, entry, several is not None)
                    for name, entry in entries.items()
                },
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = ": ".join(filter(None, (where, first["msg"].rstrip("."))))
        stop = "" if told.endswith("?") else "."
        raise IclError(f"This cannot be compared: {told}{stop}") from error


def _own(entry: Entry) -> Learner | None:
    """Return the learner that somebody has made, bare or beside the model that it is on."""
    found = entry.get("learner") if isinstance(entry, Mapping) else entry
    return found if isinstance(found, Learner) else None


def _learner(name: str, entry: Entry, several: bool) -> LearnerConfig:
    own = _own(entry)
    if own is not None:
        kind = type(own)
        beside = {"learner": own} if isinstance(entry, Learner | str) else dict(entry)
        model = beside.pop("model", None)
        if several and model is None:  # its cost would be read off another model's meter
            raise IclError(
                f"The learner {name!r}: say which of the models it is on, as"
                " {'learner': …, 'model': …}."
            )
        if set(beside) != {"learner"}:
            told = next(iter(beside.keys() - {"learner"}))
            raise IclError(f"The learner {name!r} is made already; drop {told!r}.")
        return _Made(method=f"{kind.__module__}:{kind.__qualname__}", model=model)
    assert not isinstance(entry, Learner)
    fields = {"method": entry} if isinstance(entry, str) else {"method": name, **entry}
    learner = LearnerConfig.model_validate(fields)
    try:
        learner.check_method()
        learner.check()
    except IclError as error:
        raise IclError(f"The learner {name!r}: {error}") from error
    return learner

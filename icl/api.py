"""What a script or a notebook needs, in a few words: load, compare, run, open."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.episodes.setting import WITHIN
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, LearnerConfig, ModelConfig, load_config
from icl.learners.base import Learner
from icl.reporting.comparison import Comparison
from icl.runs.entrants import Entrant, Model
from icl.runs.folder import RunFolder
from icl.runs.runner import Runner
from icl.tasks import TaskFamily, load_family
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from icl.models import base
    from icl.runs.record import EpisodeRecord

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
) -> base.Model:
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
    model: str | base.Model = OFFLINE,
    *,
    family: TaskFamily | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Let learners learn every episode's task from its support set, and judge them on its queries.

    Args:
        learners: methods' names; or by the name in tables a method's name, its parameters (with
            ``method`` where the name is another, and ``training`` for a meta-learner), or a
            `Learner` of your own. Yours are judged each time; what the others did in `out` is
            not done again.
        episodes: see `icl.episodes.draw`.
        model: that all methods share: a name, what `load_model` has returned, or an object of your
            own class.
        family: where meta-learners find their training episodes.
        out: a run's folder to keep records and checkpoints in; None keeps nothing.

    Raises:
        IclError: an unknown method or parameter, a meta-learner without a family, no episodes, or
            a learner that fails on one of them.
    """
    episodes = list(episodes)
    if not episodes:
        raise IclError("There are no episodes to compare on; draw some with icl.episodes.draw.")
    entries = learners if isinstance(learners, Mapping) else {name: name for name in learners}
    if not entries:
        raise IclError("There are no learners to compare; name one, such as 'in-context'.")
    own = {name: entry for name, entry in entries.items() if isinstance(entry, Learner)}
    entrants = [
        _entrant(name, entry) for name, entry in entries.items() if not isinstance(entry, Learner)
    ]
    training = {e.name: _sampler(e, family, episodes) for e in entrants if e.training}
    held = _model(model)
    with tempfile.TemporaryDirectory(prefix="icl-") as nowhere:
        folder = RunFolder(Path(nowhere if out is None else out))
        records: list[EpisodeRecord] = []
        trained: dict[str, dict[str, float]] = {}
        if entrants:
            with folder.locked():
                Runner(folder, entrants, episodes, held, training).run()
            rows = (folder.read_json("run.json") or {})["learners"]
            keys = {row["name"]: row["key"] for row in rows}
            records = folder.records(keys, [e.fingerprint for e in episodes])
            trained = _meta_training(rows)
    records += [
        record for name, learner in own.items() for record in _judged(name, learner, episodes, held)
    ]
    order = list(entries)
    records.sort(key=lambda record: order.index(record.learner))
    return Comparison(tuple(records), trained)


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
    from icl.experiments.experiment import run_experiment
    from icl.tools.shipped import find_config

    experiment = (
        config if isinstance(config, ExperimentConfig) else load_config(find_config(str(config)))
    )
    if data is not None:
        experiment = experiment.with_data(Path(data))
    folder = Path("runs") / experiment.name if out is None else Path(out)
    found = run_experiment(experiment, folder, command="icl.run(...)", limit=limit)
    return Comparison(tuple(found.records), found.meta_training, found.report)


def open_run(folder: str | Path) -> Comparison:
    """Return what a run's folder holds; the report there is written again.

    Raises:
        IclError: it is no run's folder, is damaged, or holds no records yet.
    """
    from icl.experiments.experiment import write_outcome

    path = Path(folder)
    found = write_outcome(RunFolder(path), command=f"icl report {path.name}")
    return Comparison(tuple(found.records), found.meta_training, found.report)


def _entrant(name: str, entry: str | Mapping[str, Any]) -> Entrant:
    fields = {"method": entry} if isinstance(entry, str) else {"method": name, **entry}
    learner = LearnerConfig(**fields)
    try:
        learner.check_method()
        learner.check()
    except IclError as error:
        raise IclError(f"The learner {name!r}: {error}") from error
    complete = learner.complete()
    return Entrant(name, complete.method, complete.params(), complete.training)


def _sampler(
    entrant: Entrant, family: TaskFamily | None, episodes: Sequence[Episode]
) -> EpisodeSampler:
    training = entrant.training or TrainingConfig()
    if family is None:
        raise IclError(
            f"The learner {entrant.name!r} is meta-trained first; give compare the `family` that"
            " its training episodes come from."
        )
    language = training.support_language
    return EpisodeSampler(
        family,
        training.split,
        ways=training.ways or max(episode.ways for episode in episodes),
        shots=[training.shots],
        queries=training.queries,
        setting=Setting("training", language) if language else WITHIN,
        languages=training.languages,
        seed=episodes[0].seed,
    )


def _model(model: str | base.Model) -> Model:
    from icl.experiments.experiment import make_model

    if isinstance(model, str):
        return make_model(ModelConfig(name=model))
    return Model(lambda: model)


def _judged(
    name: str, learner: Learner, episodes: Sequence[Episode], model: Model
) -> list[EpisodeRecord]:
    """Judge a learner that somebody has made."""
    from icl.runs.judge import judge

    backbone = model.backbone()
    return [judge(learner, name, f"own/{name}", episode, backbone) for episode in episodes]


def _meta_training(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        row["name"]: {
            "seconds": row["training"]["seconds"],
            "tokens": row["training"]["computed_tokens"],
            "steps": row["training"]["steps"],
        }
        for row in rows
        if row["training"]
    }

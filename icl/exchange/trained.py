"""Learners out of a run's folder, as its run has left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from icl.errors import IclError, did_you_mean
from icl.experiments.config import ExperimentConfig, load_config
from icl.runs.folder import FINISHED, RunFolder
from icl.runs.roster import read_roster

if TYPE_CHECKING:
    from torch import Tensor

    from icl.experiments.model_config import ModelConfig
    from icl.learners.base import Learner
    from icl.models.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Found:
    """A learner in a run's folder.

    Attributes:
        config: the run's.
        name, method: the learner's.
        params: the method's parameters, complete with defaults.
        summary: what meta-training cost; None for a method without.
        folder: of its checkpoints; empty for a method without.
        model: the identity of the model that it ran on; None in older folders.
    """

    config: ExperimentConfig
    name: str
    method: str
    params: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    folder: str
    model: str | None

    @property
    def base(self) -> ModelConfig:
        """How the run names the model."""
        return self.config.model_of(self.name)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A learner with its trained state.

    Attributes:
        learner: ready to adapt.
        method, params: what it is.
        digest: of the trained state; empty for a method without.
        identity: of the model.
    """

    learner: Learner
    method: str
    params: Mapping[str, Any]
    digest: str
    identity: str


def find_learner(run: Path, name: str | None = None, *, meta_trained: bool = False) -> Found:
    """Look a learner up in a run's folder.

    Args:
        run: the folder.
        name: the learner's name in it; None: the only one that was meta-trained.
        meta_trained: whether it must have a trained state.

    Raises:
        IclError: no such run or learner, several to choose from, or one without a trained state.
    """
    rows = {row["name"]: row for row in read_roster(RunFolder(run))}
    if name is None:
        ready = [own for own, row in rows.items() if row.get("training")]
        if len(ready) != 1:
            told = f"{len(ready)} meta-trained learners" if ready else "no meta-trained learner"
            raise IclError(f"The run {run} has {told}; name a learner of it: {', '.join(rows)}.")
        name = ready[0]
    if name not in rows:
        raise IclError(f"The run {run} has no learner {name!r}." + did_you_mean(name, rows))
    row = rows[name]
    if (meta_trained or row.get("folder")) and not row.get("training"):
        raise IclError(
            f"The learner {name!r} of {run} has no meta-trained state; let its training finish, or"
            " name a learner that is meta-trained."
        )
    config = load_config(run / "config.yaml")
    if name not in config.learners:
        raise IclError(f"{run}/config.yaml has no learner {name!r}; run the experiment again.")
    # the configuration says what runs; the roster what it has cost, and what tuning has chosen
    learner = config.learners[name].with_values((row.get("tuned") or {}).get("values", {}))
    config = config.model_copy(update={"learners": {**config.learners, name: learner}})
    params = learner.params().model_dump(mode="json")
    folder = row.get("folder", "")
    return Found(config, name, learner.method, params, row["training"], folder, row["model"])


def trained_state(run: Path, found: Found) -> dict[str, Tensor]:
    """Read the meta-parameters that a finished meta-training has ended with.

    Raises:
        IclError: its last checkpoint is damaged or gone.
    """
    from icl.training.checkpoint import load_checkpoint
    from icl.training.snapshot import digest_of, trained

    folder = run / found.folder
    checkpoint = load_checkpoint(folder, found.folder, aloud=False)
    state = {} if checkpoint is None else trained(checkpoint)
    if digest_of(state) != (found.summary or {})["digest"]:
        raise IclError(
            f"The last checkpoint in {folder} is damaged or gone; remove"
            f" {folder / FINISHED} and run the experiment again, which trains what is lost."
        )
    return state


def check_base(run: Path, found: Found) -> None:
    """Raise `IclError` where the model is not the one of the run; its files alone are read.

    One whose files tell nothing is loaded.
    """
    from icl.experiments.models import make_model

    if found.model is not None:
        model = make_model(found.base)
        told = model.foretold([found.model]) or model.backbone().identity
        _check_identity(run, found, told)


def base_of(run: Path, found: Found) -> Backbone:
    """Load the model that a learner was trained on; raises `IclError` where it is another now."""
    from icl.experiments.models import make_model

    backbone: Any = make_model(found.base).backbone()
    _check_identity(run, found, backbone.identity)
    return cast("Backbone", backbone)


def _check_identity(run: Path, found: Found, identity: str) -> None:
    if found.model not in {None, identity}:
        raise IclError(
            f"The model {found.base.name!r} is not the one that {found.name!r} of {run} was"
            " trained on; put that one back, or run the experiment again."
        )


def load_learner(run: str | Path, name: str | None = None) -> Loaded:
    """Load a learner of a run, its model, and its trained state where it has one.

    Raises:
        IclError: as `find_learner`, or its training is not finished.
    """
    from icl.experiments.models import make_model
    from icl.learners.base import MetaLearner
    from icl.learners.registry import make

    run = Path(run)
    found = find_learner(run, name)
    state = trained_state(run, found) if found.folder else None
    backbone = make_model(found.base).backbone()
    if state is not None:
        _check_identity(run, found, backbone.identity)
    learner = make(found.method, found.params, backbone)
    digest = ""
    if state is not None and isinstance(learner, MetaLearner):
        learner.load_state_dict(state)
        digest = str((found.summary or {})["digest"])
    return Loaded(learner, found.method, found.params, digest, backbone.identity)

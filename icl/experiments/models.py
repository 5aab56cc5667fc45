"""The models of an experiment: named in its configuration, or handed over as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.experiments.config import ExperimentConfig
from icl.experiments.model_config import ModelConfig
from icl.models.loading.identity import model_identity
from icl.processes import ALONE, Processes
from icl.runs.entrants import Handle
from icl.tools.own_class import is_own

if TYPE_CHECKING:
    from icl.models.base import Model, Sketch


def make_models(config: ExperimentConfig, processes: Processes = ALONE) -> dict[str, Handle]:
    """Return the model of each learner, by the learner's name; those on one model share it."""
    made = {name: make_model(one, processes, name) for name, one in config.by_name.items()}
    return {learner: made[config.label_of(learner)] for learner in config.learners}


def make_model(config: ModelConfig, processes: Processes = ALONE, label: str = "") -> Handle:
    """Return a configured model, to be loaded when something has to be computed.

    Each of several processes loads its own, on its own device, and takes its part of the memory.

    Args:
        config: the model.
        processes: that share the work.
        label: what reports call it, where not by its own name.
    """
    handle = partial(Handle, name=config.called, label=label or config.called)

    def load() -> Model:
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

    def served() -> Model:
        from icl.models.server.model import ServerModel

        assert config.server is not None
        return ServerModel(config.name, config.server, revision=config.revision)

    def foresee() -> Sketch | None:
        from icl.models.loading.own_model import foresee

        return foresee(config.name, config.revision)

    if config.server is not None:  # which alone knows what it serves today: it is asked each time
        return handle(served, light=True)
    if is_own(config.name):  # which tells who it is when it is made
        return handle(load, foresee=config.foresee)
    deciding = config.model_dump(include={"revision", "dtype", "quantise", "trust_remote_code"})
    foretell = partial(model_identity, config.name, **deciding)
    return handle(load, foretell, foresee)


def given_models(models: Mapping[str, str | Model]) -> dict[str, tuple[ModelConfig, Handle]]:
    """Return how a configuration names some models, and the models, see `given_model`."""
    return {label: given_model(model, label) for label, model in models.items()}


def given_model(model: str | Model, label: str = "") -> tuple[ModelConfig, Handle]:
    """Return how a configuration names a model, and the model.

    One that was made in memory keeps the name that it was given; whatever is loaded by that name
    later has another identity, and another model's records are never taken for its own.
    """
    if isinstance(model, str):
        config = ModelConfig(name=model)
        return config, make_model(config, label=label)
    model.look_again()  # it may have been changed since the last time
    loaded: Any = model
    if getattr(model, "origin", None) is None:  # it came from no files
        config = ModelConfig(name=model.name)
        return config, _held(model, config, label)
    dtype, quantise, *own_code = loaded.origin.settings
    fields = {
        "name": model.name,
        "revision": getattr(loaded.model.config, "_commit_hash", None),
        "dtype": dtype,
        "quantise": quantise or None,
        "trust_remote_code": bool(own_code),
    }
    config = ModelConfig.model_validate(fields)
    return config, _held(model, config, label)


def _held(model: Model, config: ModelConfig, label: str) -> Handle:
    """Return a model that somebody else holds, so that nothing is won by letting go of it."""
    return Handle(lambda: model, light=True, name=config.called, label=label or config.called)

"""The model of an experiment: named in its configuration, or handed over as a Python object."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.experiments.config import ModelConfig
from icl.models.loading.identity import model_identity
from icl.processes import ALONE, Processes
from icl.runs.entrants import Handle
from icl.tools.own_class import is_own

if TYPE_CHECKING:
    from icl.models.base import Model, Sketch


def make_model(config: ModelConfig, processes: Processes = ALONE) -> Handle:
    """Return a configured model, to be loaded when something has to be computed.

    Each of several processes loads its own, on its own device, and takes its part of the memory.
    """

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
        return Handle(served)
    if is_own(config.name):  # which tells who it is when it is made
        return Handle(load, foresee=config.foresee)
    deciding = config.model_dump(include={"revision", "dtype", "quantise", "trust_remote_code"})
    foretell = partial(model_identity, config.name, **deciding)
    return Handle(load, foretell, foresee)


def given_model(model: str | Model) -> tuple[ModelConfig, Handle]:
    """Return how a configuration names a model, and the model.

    One that was made in memory keeps the name that it was given; whatever is loaded by that name
    later has another identity, and another model's records are never taken for its own.
    """
    if isinstance(model, str):
        config = ModelConfig(name=model)
        return config, make_model(config)
    model.look_again()  # it may have been changed since the last time
    loaded: Any = model
    if getattr(model, "origin", None) is None:  # it came from no files
        return ModelConfig(name=model.name), Handle(lambda: model)
    dtype, quantise, *own_code = loaded.origin.settings
    fields = {
        "name": model.name,
        "revision": getattr(loaded.model.config, "_commit_hash", None),
        "dtype": dtype,
        "quantise": quantise or None,
        "trust_remote_code": bool(own_code),
    }
    return ModelConfig.model_validate(fields), Handle(lambda: model)

"""The models of an experiment, as its configuration names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from icl.errors import IclError, did_you_mean, one_line
from icl.models.base import PROMPTED, Sketch
from icl.models.packaged.catalogue import PACKAGED
from icl.models.server.config import ServerConfig
from icl.tasks.sources.schema import Strict
from icl.tools.own_class import is_own
from icl.tools.yamlfile import fault

Spread = Literal["auto", "balanced", "balanced_low_0", "sequential"]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class ModelConfig(Strict):
    """A backbone that learners share; the fields are those of `load_backbone`.

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

    @property
    def called(self) -> str:
        """What reports call it: its name, or a directory's own, as its place concerns nobody else.

        >>> ModelConfig(name="some/model").called, ModelConfig(name="./mine/model").called
        ('some/model', 'model')
        """
        if self.name.startswith((".", "/", "~")) or Path(self.name).is_dir():
            return Path(self.name).expanduser().resolve().name
        return self.name

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


def check_models(
    model: ModelConfig | None,
    models: Mapping[str, ModelConfig] | None,
    chosen: Mapping[str, str | None],
) -> None:
    """Refuse models that are not there, that nobody uses, or that cannot be told from `model`.

    Args:
        model: the one model of all learners.
        models: several by their names in the report.
        chosen: the model that each learner names, by the learner's name; None where it names none
            and takes the first.

    Raises:
        PydanticCustomError: for a validator, see `icl.tools.yamlfile.fault`.
    """
    if models is None:
        if model is None:
            raise fault("`model` is missing; add it, or name several under `models`")
        for learner, name in chosen.items():
            if name is not None:
                raise fault(
                    f"the learner {learner!r} names the model {name!r}, and the experiment has one"
                    " `model`, which all learners share; drop this, or name models under `models`",
                    "learners", learner, "model",
                )  # fmt: skip
        return
    if model is not None:
        raise fault("`model` and `models` are both given; drop one of them", "models")
    if not models:
        raise fault("there are none; name one, as `llm: {name: some/model}`", "models")
    for name in models:
        if not name.strip() or one_line(name) != name:
            raise fault(f"{name!r} cannot name a model; take letters that can be shown", "models")
    for learner, name in chosen.items():
        if name is not None and name not in models:
            raise fault(
                f"there is no model {name!r} under `models`.{did_you_mean(name, models)}",
                "learners", learner, "model",
            )  # fmt: skip
    first = next(iter(models))
    used = {first if name is None else name for name in chosen.values()}
    for name in models:
        if name not in used:
            raise fault(
                f"no learner uses the model {name!r}; drop it, or let a learner say"
                f" `model: {name}`",
                "models", name,
            )  # fmt: skip

"""A model by its name: one that icl loads, or one of somebody's own class."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from icl.errors import IclError, in_short
from icl.models.base import DECODER, ENCODER, PROMPTED, Model, Sketch, check_can
from icl.models.loading.identity import find_origin
from icl.tools.own_class import is_own, own_class

_OPTIONS = "`revision`, `dtype`, `device_map`, `quantise` and `trust_remote_code`"
_DEFAULTS = {"dtype": "float32", "trust_remote_code": False}


def load_model(name: str, **options: Any) -> Model:
    """Load a model by its name, or make one of somebody's own class, ``file.py:Class``.

    Args:
        name: see `icl.models.loading.load.load_backbone`, or of a class derived from `Model`, which
            is made without arguments.
        options: of `load_backbone`; an own class takes none but ``device``, which it is not told.

    Raises:
        IclError: the model is unknown, cannot be read or made, or cannot be run exactly.
    """
    if not is_own(name):
        from icl.models.loading.load import load_backbone

        return load_backbone(name, **options)
    asked = {n for n, value in options.items() if value not in (None, _DEFAULTS.get(n))}
    if asked - {"device"}:
        raise IclError(f"The model {name!r} is a class of your own: {_OPTIONS} are not for it.")
    kind = own_class(name, Model, "model")
    try:
        made = kind()
    except IclError:
        raise
    except Exception as error:  # somebody's own code may fail in any way
        reason = in_short(error) or type(error).__name__
        raise IclError(f"The model {name!r} cannot be made: {reason}.") from error
    can = check_can(name, made.can)
    try:
        made.name = name
        if made.can != can:  # which may be told by a property
            made.can = can
    except AttributeError as error:
        raise IclError(f"The model {name!r}: {error}; make it a plain attribute.") from error
    return made


def foresee(name: str, revision: str | None = None) -> Sketch | None:
    """Tell what a model will be able to do, without loading it; None where nothing tells.

    Somebody's own class says it. A model's configuration does, where it is on this machine; one
    that cannot be packed will be able to do less.

    Raises:
        IclError: somebody's own class cannot be imported, or says what no model can.
    """
    if is_own(name):
        kind = own_class(name, Model, "model")
        can: Any = kind.can
        known = isinstance(can, Collection)  # else only an object of it tells
        return Sketch(name, kind.kind, check_can(name, can)) if known else None

    from transformers import AutoConfig

    from icl.models.loading.load import is_encoder

    try:
        origin = find_origin(name, revision=revision)
        if origin is None or "config.json" not in origin.files:
            return None
        config = AutoConfig.from_pretrained(origin.files["config.json"], trust_remote_code=False)
    except (IclError, OSError, ValueError, KeyError):  # which is told where it is loaded
        return None
    if config.is_encoder_decoder:
        return Sketch(name, "an encoder-decoder", PROMPTED | {"weights"})
    encodes = is_encoder(config)
    return Sketch(name, "an encoder" if encodes else "a decoder", ENCODER if encodes else DECODER)

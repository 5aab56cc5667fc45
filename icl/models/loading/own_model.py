"""A model by its name: one that icl loads, or one of somebody's own class."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from icl.errors import IclError, in_short
from icl.models.base import Model, Sketch, check_can
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
    made.name = name
    made.can = check_can(name, made.can)
    return made


def foresee(name: str) -> Sketch | None:
    """Tell what somebody's own class will be able to do; None where only an object of it tells.

    Raises:
        IclError: it cannot be imported, or says what no model can.
    """
    kind = own_class(name, Model, "model")
    can: Any = kind.can
    return Sketch(name, kind.kind, check_can(name, can)) if isinstance(can, Collection) else None

"""Kinds of tasks by name, icl's and somebody's own, and how episodes say theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from icl.errors import IclError, did_you_mean
from icl.tasks.kinds.base import Kind
from icl.tasks.kinds.promises import hold
from icl.tools.closure import code_of
from icl.tools.own_class import own_class
from icl.tools.values import plain

# name, also of the module here -> class; the code of each enters the keys of those that it concerns
_CLASSES = {
    "classification": "Classification",
    "multiple_choice": "MultipleChoice",
    "generation": "Generation",
}
KINDS = tuple(_CLASSES)
RESERVED = ("kind", "name", "code")  # what else stands beside a kind's fields


def home(name: str) -> str:
    """Return the module of one of `KINDS`."""
    return f"{__package__}.{name}"


def kind_class(name: str) -> type[Kind]:
    """Return the class of a kind: one of `KINDS`, or ``file.py:Class``, ``package.module:Class``.

    Raises:
        IclError: there is none, or it cannot be imported.
    """
    if name in _CLASSES:
        found: type[Kind] = getattr(import_module(home(name)), _CLASSES[name])
        return found
    if ":" not in name:
        raise IclError(f"There is no kind of task {name!r}.{did_you_mean(name, KINDS)}")
    own = own_class(name, Kind, "kind of task")  # type: ignore[type-abstract]
    if own.__abstractmethods__:
        lacks = ", ".join(f"`{method}`" for method in sorted(own.__abstractmethods__))
        raise IclError(f"The kind of task {name!r} lacks {lacks}; write what is missing.")
    return hold(own, name)


def kind_name(kind: Kind) -> str:
    """Return the name by which `kind_class` finds a kind's class from the current directory."""
    own = type(kind)
    if own.__module__.startswith(f"{__package__}."):
        return own.__module__.rpartition(".")[2]
    module = sys.modules[own.__module__]
    file = Path(module.__file__ or "")
    if own.__module__.startswith("icl_own_"):
        return f"{Path(os.path.relpath(file)).as_posix()}:{own.__name__}"
    return f"{own.__module__}:{own.__name__}"


def said(kind: Kind) -> dict[str, Any]:
    """Return what an episode says of its kind, as JSON values: its name, its fields, and its code.

    Of icl's own kinds the code is not said: it enters the keys of learners.
    """
    told = {"name": kind_name(kind), **plain(kind)}
    if told["name"] not in KINDS:
        told["code"] = code_of(type(kind).__module__)
    return told


def kind_from(told: Mapping[str, Any]) -> Kind:
    """Return the kind of which `said` has told.

    Raises:
        IclError: there is no such kind any more, or its code has changed since.
    """
    fields = {name: value for name, value in told.items() if name not in RESERVED}
    file = told["name"].rpartition(":")[0]
    if file.endswith(".py") and not Path(file).expanduser().is_file():
        raise IclError(
            f"The kind of task {told['name']!r} is not here: its file is seen from the directory in"
            " which the episodes were drawn; go there, or put the file here."
        )
    own = kind_class(told["name"])
    if told.get("code") not in (None, code_of(own.__module__)):
        raise IclError(
            f"The kind of task {told['name']!r} has changed since the episodes were drawn; put back"
            " its code, or draw them again."
        )
    try:
        return own.model_validate(fields)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise IclError(
            f"The kind of task {told['name']!r} has other fields than the episodes say ({reason});"
            " draw them again."
        ) from error

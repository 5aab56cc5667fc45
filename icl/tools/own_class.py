"""Somebody's own class, named ``file.py:Class`` or ``package.module:Class``."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from icl.errors import IclError, did_you_mean
from icl.tools.closure import code_of

T = TypeVar("T")


def is_own(name: str) -> bool:
    """Tell whether a name has the form of somebody's own class: a file or module, and a class."""
    module, _, kind = name.rpartition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    return kind.isidentifier() and (module.endswith(".py") or dotted)


def own_class(name: str, base: type[T], what: str) -> type[T]:
    """Import somebody's own class; the same one each time, whatever becomes of its file meanwhile.

    Args:
        name: ``file.py:Class``, seen from the current directory, or ``package.module:Class``.
        base: what the class must be derived from; may be abstract.
        what: what the class stands for in a message, such as ``method``.

    Raises:
        IclError: it cannot be imported, or there is no such class.
    """
    module, _, kind = name.rpartition(":")
    try:
        loaded = _module(_place(module))
    except (Exception, SystemExit) as error:  # somebody's own code may fail, or leave, in any way
        said = "" if isinstance(error, SystemExit) else " ".join(str(error).split()).rstrip(".")
        reason = said or type(error).__name__
        raise IclError(f"The {what} {name!r} cannot be imported: {reason}.") from error
    found: Any = getattr(loaded, kind, None)
    if _is_a(found, base):
        own: type[T] = found
        return own
    there = [n for n, v in vars(loaded).items() if _is_a(v, base) and v.__module__[:4] != "icl."]
    noun = base.__name__.lower()
    mend = did_you_mean(kind, there) if there else (
        f" Derive it from `{base.__module__}.{base.__name__}`."
    )  # fmt: skip
    raise IclError(f"The {what} {name!r}: {module} has no {noun} {kind!r}.{mend}")


def own_module(name: str) -> str:
    """Return the dotted name under which an own class's module is imported, for `code_of`."""
    place = _place(name.rpartition(":")[0])
    return _name(place) if isinstance(place, Path) else place


def _is_a(found: Any, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)


def _place(module: str) -> Path | str:
    """Return the whole path of a file, or the name of a module."""
    return Path(module).expanduser().resolve() if module.endswith(".py") else module


@cache
def _module(place: Path | str) -> ModuleType:
    if isinstance(place, Path):
        spec = spec_from_file_location(_name(place), place)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is no Python file")
        loaded = module_from_spec(spec)
        sys.modules[spec.name] = loaded
        spec.loader.exec_module(loaded)
    else:
        loaded = import_module(place)
    code_of(loaded.__name__)  # read now, as it is imported: a later edit decides nothing here
    return loaded


def _name(file: Path) -> str:
    """Name the module that somebody's own file becomes; files may share a name."""
    return f"icl_own_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"

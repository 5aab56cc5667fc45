"""Sources that other packages bring along, as entry points of the group ``icl.sources``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.rows import Row

GROUP = "icl.sources"


def plugin_rows(
    name: str, options: Mapping[str, Any], *, language: str, split: str, task: str
) -> Iterator[Row]:
    """Read rows through a registered function, see `PluginSource`.

    Raises:
        IclError: no package registers the name, it cannot be loaded, or what it gives is no row.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        hint = did_you_mean(name, found) if found else " No package registers any."
        raise IclError(f"No installed package registers the source {name!r} under {GROUP}.{hint}")
    where = f"The source {name!r} ({found[name].value})"
    try:
        function = found[name].load()
    except Exception as error:  # another package's import may fail in any way
        raise IclError(f"{where} cannot be loaded: {error!r}; check its package.") from error
    if not callable(function):
        raise IclError(f"{where} is no function; register one.")
    number = 0
    try:
        for number, row in enumerate(
            function(language=language, split=split, task=task, **options), start=1
        ):
            if not isinstance(row, Mapping):
                raise IclError(f"{where}, row {number}: not a mapping; give column -> value.")
            yield number, row
    except IclError:
        raise
    except Exception as error:  # so may its own code
        raise IclError(
            f"{where} failed after row {number}: {error!r}; check its options."
        ) from error

"""Sources that other packages bring along, as entry points of the group ``icl.sources``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar

from pydantic import Field

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import Row, Source, Wanted
from icl.tasks.sources.schema import Columns

GROUP = "icl.sources"


class PluginSource(Source):
    """Rows from another package, which registers a function as an entry point ``icl.sources``.

    The function takes ``language``, ``split`` and ``task`` and the options by keyword, and returns
    rows: mappings from column to value.

    Attributes:
        name: the entry point's name.
        columns: which columns of its rows hold what.
        options: what else the function takes.
    """

    remote: ClassVar[bool] = True  # for all that is known of it

    name: str
    columns: Columns
    options: Mapping[str, Any] = Field(default_factory=dict)

    def place(self, wanted: Wanted) -> str:
        """Return the entry point's name, the language and the data split."""
        return f"The source {self.name!r}, {wanted.language}, {wanted.split}"

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Read rows through the registered function.

        Raises:
            IclError: no package registers the name, or it cannot be loaded.
        """
        found = {point.name: point for point in entry_points(group=GROUP)}
        if self.name not in found:
            hint = did_you_mean(self.name, found) if found else " No package registers any."
            raise IclError(
                f"No installed package registers the source {self.name!r} under {GROUP}.{hint}"
            )
        where = f"The source {self.name!r} ({found[self.name].value})"
        try:
            function = found[self.name].load()
        except Exception as error:  # another package's import may fail in any way
            raise IclError(f"{where} cannot be loaded: {error!r}; check its package.") from error
        if not callable(function):
            raise IclError(f"{where} is no function; register one.")
        told = {"language": wanted.language, "split": wanted.split, "task": wanted.task}
        yield from enumerate(function(**told, **self.options), start=1)

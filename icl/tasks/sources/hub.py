"""Rows from the Hugging Face Hub, through `datasets`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from icl.errors import IclError
from icl.tasks.sources.base import Row, Source, UnreachableError, Wanted, check_splits, only
from icl.tasks.sources.schema import Columns, Pattern


class HubSource(Source):
    """A data set on the Hugging Face Hub, read through `datasets`.

    Attributes:
        name: the repository's id.
        columns: which columns hold what.
        config: the configuration, with ``{language}`` and ``{task}``.
        revision: a commit, branch or tag.
        files: for a repository without configurations, the files of one split, with places.
        splits: data split in the definition -> the Hub's name of it, where they differ.
        streaming: read row by row over the network instead of downloading first.
        limit: at most so many rows of each split.
        where: as for `DirectorySource`.
    """

    remote: ClassVar[bool] = True

    name: str
    columns: Columns
    config: Pattern | None = None
    revision: str | None = None
    files: Pattern | None = None
    splits: Mapping[str, str] = Field(default_factory=dict)
    streaming: bool = False
    limit: int | None = Field(default=None, ge=1)
    where: Mapping[str, Pattern] = Field(default_factory=dict)

    def place(self, wanted: Wanted) -> str:
        """Return the data set's name, configuration and split."""
        there = self._there(wanted)
        config = self.config and there.fill(self.config)
        return f"{self.name}, config {config}, split {there.split}"

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Read one split, see `hub_rows`."""
        there = self._there(wanted)
        found = hub_rows(
            self.name,
            config=self.config and there.fill(self.config),
            split=there.split,
            revision=self.revision,
            files=self.files and there.fill(self.files),
            streaming=self.streaming,
            limit=self.limit,
        )
        return only(found, self.where, wanted, self.place(wanted))

    def _there(self, wanted: Wanted) -> Wanted:
        """Return what is wanted with the Hub's name of the split."""
        return replace(wanted, split=self.splits.get(wanted.split, wanted.split))

    def check(self, data: Sequence[str]) -> None:
        """Look whether `splits` names data splits of the definition."""
        check_splits(self.splits, data)


def hub_rows(
    name: str,
    *,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    files: str | None = None,
    streaming: bool = False,
    limit: int | None = None,
    folder: Path | None = None,
    class_names: bool = True,
    **arguments: Any,
) -> Iterator[Row]:
    """Read one split of a data set.

    Args:
        name: the repository's id, or a builder's name such as ``json``.
        split: the Hub's name of the split.
        config, revision, files, streaming, limit: see `HubSource`.
        folder: where local files lie that are named relatively, and all must; by default in
            `name`, where that is a directory, or under the current directory.
        class_names: give class labels as their names; else as the numbers that are stored.
        arguments: what else `datasets.load_dataset` takes: `data_files`, `data_dir`.

    Raises:
        UnreachableError: the data set cannot be had.
        IclError: it would run code or lies outside its folder.
    """
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if files is not None:
        arguments["data_files"] = {split: files}
    if name == "pandas":
        raise IclError("The data set builder 'pandas' reads pickles, which icl does not.")
    within = folder or (Path(name) if Path(name).is_dir() else Path.cwd())
    _each_text(arguments, lambda place: _check_place(place, within))
    if folder is not None and name in _PACKAGED_DATASETS_MODULES:  # it would read from anywhere
        for key in arguments.keys() & {"data_files", "data_dir"}:
            arguments[key] = _each_text(
                arguments[key], lambda p: p if "://" in p else str(within.resolve() / p)
            )
    elif folder is not None and (name.startswith((".", "/", "~")) or (folder / name).is_dir()):
        _check_place(name, folder)
        name = str(folder / name)
    number = 0
    try:
        table = datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming, **arguments
        )
        names = _class_names(table.features or {}) if class_names else {}
        for number, row in enumerate(itertools.islice(table, limit), start=1):
            yield number, {c: _plain(value, names.get(c)) for c, value in row.items()}
    except IclError:
        raise
    except Exception as error:  # many libraries stand behind this, each with errors of its own
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UnreachableError(
            f"The data set {name!r} (config {config!r}, split {split!r}) cannot be read from the "
            f"Hub: {reason}; check the network, the name and the split."
        ) from error


def _each_text(value: Any, change: Callable[[str], Any]) -> Any:
    """Return a value with its texts, which may lie in mappings and lists, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_text(inner, change) for key, inner in value.items()}
    return [_each_text(inner, change) for inner in value] if isinstance(value, list) else value


def _check_place(place: str, folder: Path) -> None:
    """Raise `IclError` for a local file outside its folder; an address is the Hub's own matter."""
    if "://" not in place and not (folder / place).resolve().is_relative_to(folder.resolve()):
        raise IclError(
            f"The file {place!r} lies outside the data directory {folder}; a definition may only"
            " name files in it."
        )


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    import datasets

    return {
        column: list(feature.names)
        for column, feature in features.items()
        if isinstance(feature, datasets.ClassLabel) and feature.names
    }


def _plain(value: Any, names: list[str] | None) -> Any:
    """Return the name of a class; a number without one, such as -1, stays for `skip`."""
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value

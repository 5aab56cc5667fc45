"""`Source`: where the examples of a family come from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.cells import text_of
from icl.tasks.sources.schema import Columns, Strict
from icl.tools.yamlfile import fault

Row = tuple[int, Mapping[str, Any]]  # the number by which a person finds it, and its columns


class UnreachableError(IclError):
    """The data are not where the source says; another source of the family may have them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are asked for.

    Attributes:
        task, language: whose.
        split: which part of the data, as the definition's `data` names it; "" where it has none.
        labels: the task's.
    """

    task: str
    language: str
    split: str = ""
    labels: tuple[str, ...] = ()

    def fill(self, pattern: str) -> str:
        """Put language, split and task where a pattern names them."""
        return pattern.format(language=self.language, split=self.split, task=self.task)


class Source(Strict, ABC):
    """Where the examples of a family come from: its fields are those of its YAML, and it has rows.

    Somebody's own is named ``file.py:Class`` in a definition, seen from the definition's file.

    Attributes:
        type: how the definition names the source.
        columns: which columns hold what.
        has_splits: whether its data come in splits, which the definition names under `data`.
        remote: whether reading may ask the network, which a check of the definition does not.
    """

    has_splits: ClassVar[bool] = True
    remote: ClassVar[bool] = False

    type: str
    columns: Columns | None = None

    @abstractmethod
    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Yield rows, each with the number by which a person finds it.

        Raises:
            IclError: they cannot be read; the sentence says where, and what would mend it.
        """

    def place(self, wanted: Wanted) -> str:
        """Return what errors call the place of these rows."""
        split = f", {wanted.split}" if wanted.split else ""
        return f"The source {self.type!r}, {wanted.language}{split}"

    @property
    def fixed_columns(self) -> Columns | None:
        """What the rows hold where the definition does not say it; None: it must."""
        return None

    @property
    def own_columns(self) -> Columns:
        """What the rows hold."""
        found = self.columns or self.fixed_columns
        if found is None:
            raise fault("`columns` is missing; say which columns hold label and fields")
        return found

    def check(self, data: Sequence[str]) -> None:
        """Raise a fault where the definition's data splits do not suit."""

    def at_hand(self, family: str, data: Path | None) -> Source | None:
        """Return the source as it can be read now, or None.

        Args:
            family: the name of the definition.
            data: the directory that the user named, if any: whose rows lie elsewhere is not meant.
        """
        return self if data is None else None

    @property
    def variable(self) -> str | None:
        """The environment variable that may name where the data are, if there is one."""
        return None

    @model_validator(mode="after")
    def _says_its_columns(self) -> Source:
        assert self.own_columns
        return self


class LocalSource(Source):
    """Files under a directory that the user or the definition names.

    Attributes:
        env: the environment variable that may name the directory.
        root: a directory that comes with the definition, relative to its file.
    """

    env: str | None = None
    root: Path | None = None

    @property
    def folder(self) -> Path:
        """The directory, of a source that is at hand."""
        assert self.root is not None
        return self.root

    def within(self, place: str) -> Path:
        """Return a place in the directory; raises `IclError` for one that leads out of it."""
        parts = Path(place)
        if parts.is_absolute() or ".." in parts.parts:
            raise IclError(
                f"The file {place!r} lies outside the data directory {self.folder}; a definition "
                "may only name files in it."
            )
        return self.folder / parts

    @property
    def variable(self) -> str | None:
        """The environment variable that may name the directory."""
        return self.env

    def at_hand(self, family: str, data: Path | None) -> Source | None:
        """Take the user's directory, else the environment's, else the definition's.

        Raises:
            IclError: it does not exist.
        """
        named = os.environ.get(self.env, "") if self.env else ""
        folder = data or (Path(named) if named else self.root)
        if folder is None:
            return None
        folder = folder.expanduser()
        if not folder.is_dir():
            variable = f" or the environment variable {self.env}" if self.env else ""
            raise IclError(
                f"The data directory {folder} of {family!r} does not exist; check "
                f"`--data`{variable}."
            )
        return self.model_copy(update={"root": folder})

    @model_validator(mode="after")
    def _has_a_place(self) -> LocalSource:
        if self.env is None and self.root is None:
            raise fault(
                "the source has no place; give `root`, or `env` for a variable that names it"
            )
        return self


def check_splits(names: Mapping[str, str], data: Sequence[str]) -> None:
    """Raise a fault for a data split in a source's `splits` that the definition does not have."""
    for own in names:
        if own not in data:
            raise fault(f"unknown data split {own!r}.{did_you_mean(own, data)}", "splits", own)


def only(
    rows: Iterator[Row], where: Mapping[str, str], wanted: Wanted, place: str
) -> Iterator[Row]:
    """Keep the rows whose columns hold the texts that `where` asks of them."""
    texts = {column: wanted.fill(pattern) for column, pattern in where.items()}
    for number, row in rows:
        try:
            kept = all(text_of(row, column) == text for column, text in texts.items())
        except IclError as error:
            raise IclError(f"{place}, row {number}: {error}") from error
        if kept:
            yield number, row

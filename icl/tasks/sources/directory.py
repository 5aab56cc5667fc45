"""Rows of local files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import LocalSource, Row, Wanted, only
from icl.tasks.sources.schema import SUFFIXES, Columns, Pattern
from icl.tasks.sources.tables import read_table
from icl.tasks.sources.task_files import COLLECTIONS, read_collection
from icl.tools.yamlfile import fault


class DirectorySource(LocalSource):
    """Local files: tables, or the JSON of Natural Instructions, BIG-bench or MetaICL.

    Attributes:
        file: a file's place in the directory, with ``{language}``, ``{split}`` and ``{task}``.
        format: what the files are; by default their ending says it.
        columns: may be left out for the formats that fix them (all but ``table``).
        where: column -> the text that it must hold for a row to be read, with the same places.
    """

    file: Pattern = "{language}/{split}.jsonl"
    format: Literal["table", "natural-instructions", "big-bench", "metaicl"] = "table"
    where: Mapping[str, Pattern] = Field(default_factory=dict)

    @property
    def fixed_columns(self) -> Columns | None:
        """What the format fixes."""
        return COLLECTIONS.get(self.format)

    def place(self, wanted: Wanted) -> str:
        """Return the file's path."""
        return str(self.within(wanted.fill(self.file)))

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Read the file of a language, data split and task; raises `IclError` for a fault in it."""
        path = self.within(wanted.fill(self.file))
        if not path.is_file():
            languages = [p.name for p in self.folder.iterdir() if p.is_dir()]
            near = self.file.startswith("{language}/") and languages
            hint = did_you_mean(wanted.language, languages) if near else ""
            raise IclError(f"There is no file {path}; check `--data`.{hint}")
        found = read_table(path) if self.format == "table" else read_collection(path, self.format)
        return only(found, self.where, wanted, str(path))

    def check(self, data: Sequence[str]) -> None:
        """Refuse splits that would be the same rows."""
        texts = (self.file, *self.where.values())
        if len(data) > 1 and not any("{split}" in text for text in texts):
            raise fault(
                "each data split would be the same rows; name {split} in `file` or `where`", "file"
            )

    @model_validator(mode="after")
    def _can_be_read(self) -> DirectorySource:
        if self.format == "table" and not self.file.endswith(SUFFIXES):
            raise fault(f"the file must end in one of {', '.join(SUFFIXES)}", "file")
        return self

"""The schema of sources: where the examples of a family come from."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from icl.errors import did_you_mean
from icl.tools.yamlfile import fault

PLACES = ("language", "split", "task")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Move what a docstring says of each attribute to its field, where editors show it."""
    fields = schema.get("properties", {})
    for parent in reversed([c for c in model.__mro__ if issubclass(c, BaseModel)]):
        text, _, attributes = inspect.cleandoc(parent.__doc__ or "").partition("\n\nAttributes:\n")
        schema["description"] = " ".join(text.split())
        for part in re.split(r"\n    (?=\w)", "\n" + attributes):
            names, _, said = part.partition(":")
            for name in names.split(", "):
                if name.strip() in fields:
                    fields[name.strip()]["description"] = " ".join(said.split())


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_describe)


def _check_pattern(pattern: str) -> str:
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(
            f"{pattern!r} is no pattern ({error}); double a brace to mean it"
        ) from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACES or spec or conversion):
            hint = did_you_mean(name, PLACES)
            raise ValueError(f"{pattern!r} has the unknown place {{{name}}}.{hint}")
    return pattern


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_check_pattern)]


def as_text(value: Any) -> Any:
    """Spell a scalar as JSON does, so that a label 1 or true in YAML meets the one in the data."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


class Columns(Strict):
    """Which columns of a table hold what.

    A column may lie inside another: ``choices.text.0`` is item 0 of ``text`` of ``choices``.

    Attributes:
        label: the label; for multiple choice the right option, for generation the reference.
        fields: field name in templates -> column. A list of strings is joined by blanks.
        id: the item's id, shared by its translations, in one column or several; the row's number
            where there is none.
        domain: where a row is from, to keep support and query in different domains.
        options: for multiple choice, the column that lists a row's options, or one column each.
    """

    label: str
    fields: Mapping[str, str] = Field(min_length=1)
    id: str | tuple[str, ...] | None = None
    domain: str | None = None
    options: str | tuple[str, ...] | None = None


class OwnColumns(Strict):
    """What one task of a family has in other columns than its source says; see `Columns`."""

    label: str | None = None
    fields: Mapping[str, str] | None = None
    id: str | tuple[str, ...] | None = None
    domain: str | None = None
    options: str | tuple[str, ...] | None = None

    def over(self, columns: Columns) -> Columns:
        """Return the columns with these in place of the source's."""
        own = {k: v for k, v in self.__dict__.items() if v is not None}
        return columns.model_copy(update=own)


# What rows hold whose format fixes it.
FORMAT_COLUMNS = {
    "natural-instructions": Columns(
        id="id", label="output", fields={"input": "input", "definition": "definition"}
    ),
    "big-bench": Columns(label="answer", fields={"input": "input"}, options="options"),
    "metaicl": Columns(label="output", fields={"input": "input"}, options="options"),
    "lm-eval": Columns(label="answer", fields={"text": "text"}, options="choices"),
    "cldr": Columns(id="code", label="label", fields={"text": "name"}),
}


class CldrSource(Strict):
    """Names from Unicode CLDR through Babel (extra ``offline``), see `icl.tasks.sources.cldr`."""

    type: Literal["cldr"]

    @property
    def own_columns(self) -> Columns:
        """What a row holds."""
        return FORMAT_COLUMNS["cldr"]


class _Files(Strict):
    """Files under a directory that the user or the definition names.

    Attributes:
        env: the environment variable that may name the directory.
        root: a directory that comes with the definition, relative to its file.
    """

    env: str | None = None
    root: Path | None = None

    @model_validator(mode="after")
    def _has_a_place(self) -> _Files:
        if self.env is None and self.root is None:
            raise fault(
                "the source has no place; give `root`, or `env` for a variable that names it"
            )
        return self


class DirectorySource(_Files):
    """Local files: tables, or the JSON of Natural Instructions, BIG-bench or MetaICL.

    Attributes:
        file: a file's place in the directory, with ``{language}``, ``{split}`` and ``{task}``.
        format: what the files are; by default their ending says it.
        columns: may be left out for the formats that fix them (all but ``table``).
        where: column -> the text that it must hold for a row to be read, with the same places.
    """

    type: Literal["directory"]
    columns: Columns | None = None
    file: Pattern = "{language}/{split}.jsonl"
    format: Literal["table", "natural-instructions", "big-bench", "metaicl"] = "table"
    where: Mapping[str, Pattern] = Field(default_factory=dict)

    @property
    def own_columns(self) -> Columns:
        """What a row holds."""
        return self.columns or FORMAT_COLUMNS[self.format]

    @model_validator(mode="after")
    def _can_be_read(self) -> DirectorySource:
        if self.format == "table":
            if not self.file.endswith(SUFFIXES):
                raise fault(f"the file must end in one of {', '.join(SUFFIXES)}", "file")
            if self.columns is None:
                raise fault("`columns` is missing; say which columns hold label and fields")
        return self


class HubSource(Strict):
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

    type: Literal["hub"]
    name: str
    columns: Columns
    config: Pattern | None = None
    revision: str | None = None
    files: Pattern | None = None
    splits: Mapping[str, str] = Field(default_factory=dict)
    streaming: bool = False
    limit: int | None = Field(default=None, ge=1)
    where: Mapping[str, Pattern] = Field(default_factory=dict)

    @property
    def own_columns(self) -> Columns:
        """What a row holds."""
        return self.columns


class LmEvalSource(_Files):
    """Multiple-choice tasks of lm-evaluation-harness, from their YAML files.

    A row has ``text`` (the rendered `doc_to_text`), ``choices`` and ``answer`` (the right choice).

    Attributes:
        file: the task's YAML file in the directory, with places.
        splits: data split in the definition -> the data set's name of it; by default train,
            validation and test are the task's `training_split`, `validation_split`, `test_split`.
        columns: by default those of a row.
    """

    type: Literal["lm-eval"]
    file: Pattern = "{task}.yaml"
    splits: Mapping[str, str] = Field(default_factory=dict)
    columns: Columns | None = None

    @property
    def own_columns(self) -> Columns:
        """What a row holds."""
        return self.columns or FORMAT_COLUMNS["lm-eval"]


class PluginSource(Strict):
    """Rows from another package, which registers a function as an entry point ``icl.sources``.

    The function takes ``language``, ``split`` and ``task`` and the options by keyword, and returns
    rows: mappings from column to value.

    Attributes:
        name: the entry point's name.
        columns: which columns of its rows hold what.
        options: what else the function takes.
    """

    type: Literal["plugin"]
    name: str
    columns: Columns
    options: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def own_columns(self) -> Columns:
        """What a row holds."""
        return self.columns


Source = Annotated[
    CldrSource | DirectorySource | HubSource | LmEvalSource | PluginSource,
    Field(discriminator="type"),
]

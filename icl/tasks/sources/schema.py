"""What the schemas of definitions and of sources share."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from icl.errors import did_you_mean

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


class Columns(OwnColumns):
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

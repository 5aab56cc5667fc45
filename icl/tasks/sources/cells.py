"""What stands in a cell of a row, read with errors that name the column and the mend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.schema import as_text
from icl.tasks.task import label_name, normalise


class IncompleteError(IclError):
    """A row without a text, or with options that cannot be told apart."""


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """Return what a column holds, ``a.b.0`` reaching inside; raises `IclError` if it is missing."""
    if column in row:
        value = row[column]
    else:
        first, *path = column.split(".")
        if first not in row:
            hint = did_you_mean(column, map(str, row))
            raise IclError(f"the column {column!r} is missing.{hint}")
        value = row[first]
        for step in path:
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                raise IclError(f"the column {column!r} is missing: there is no {step!r} in it.")
    if value is None or (isinstance(value, float) and math.isnan(value)):  # as pandas has it
        raise IncompleteError(
            f"the column {column!r} is missing; give it a value or remove the row."
        )
    return value


def text_of(row: Mapping[str, Any], column: str) -> str:
    """Return what a column holds as text; a list of strings is joined by blanks."""
    value = as_text(value_at(row, column))
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        value = " ".join(value)
    if isinstance(value, bytes | Mapping | list | tuple):
        kind = type(value).__name__
        raise IclError(f"the column {column!r} holds a {kind}, not a text; name one inside it.")
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise IclError(
            f"the column {column!r} holds half a character (a lone surrogate); mend its encoding."
        ) from None
    if "\0" in text:
        raise IclError(f"the column {column!r} holds a zero byte; mend the file's encoding.")
    return text


def label_of(row: Mapping[str, Any], column: str, *, several: bool = False) -> str:
    """Return the label in a column, as `label_name` spells it.

    Args:
        row: the row.
        column: the column.
        several: take a list of texts, joined by blanks, as `text_of` does.

    Raises:
        IclError: see `text_of`; or the column holds several labels.
    """
    value = value_at(row, column)
    if isinstance(value, list | tuple) and len(value) != 1 and not several:
        raise IclError(
            f"the column {column!r} holds {len(value)} labels; give each row one, or name another."
        )
    return label_name(text_of(row, column))


def shown(row: Mapping[str, Any], name: str, column: str) -> str:
    """Return what a column holds as text that is not empty; `name` is what it is called."""
    text = text_of(row, column)
    if not normalise(text):
        raise IncompleteError(f"the field {name!r} is empty; fill or remove the row.")
    return text

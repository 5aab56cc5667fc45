"""From table rows to examples, each fault told with file, row and mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.definition import Columns
from icl.tasks.task import Example


def examples_from_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Columns,
    labels: tuple[str, ...],
    *,
    language: str,
    part: str,
    where: str,
) -> list[Example]:
    """Turn the rows of one language and data split into examples.

    Args:
        rows: column -> value.
        columns: which column holds what.
        labels: the labels that may occur.
        language: the rows' language.
        part: the data split; it stands at the front of the parallel id.
        where: what to call the source in errors.

    Raises:
        IclError: a column is missing, a label is unknown, a text is empty, or an id stands twice.
    """
    examples: list[Example] = []
    seen: dict[str, int] = {}
    wanted = [*columns.fields.values(), columns.label, *([columns.id] if columns.id else [])]
    for number, row in enumerate(rows, start=1):
        for column in wanted:
            if row.get(column) is None:
                hint = did_you_mean(column, map(str, row)) if column not in row else ""
                raise IclError(f"{where}, row {number}: the column {column!r} is missing.{hint}")
        fields = {name: str(row[column]) for name, column in columns.fields.items()}
        for name, text in fields.items():
            if not text.strip():
                raise IclError(
                    f"{where}, row {number}: the field {name!r} is empty; fill or remove the row."
                )
        label = str(row[columns.label])
        if label not in labels:
            raise IclError(
                f"{where}, row {number}: the label {label!r} is not in the definition; add it to "
                f"`labels` or correct the row.{did_you_mean(label, labels)}"
            )
        item = str(row[columns.id]) if columns.id else str(number)
        if item in seen:
            raise IclError(
                f"{where}, row {number}: the id {item!r} stands in row {seen[item]} already; "
                "give each row its own."
            )
        seen[item] = number
        parallel = f"{part}/{item}"
        examples.append(Example(f"{language}/{parallel}", fields, label, language, parallel))
    return examples

"""The two tables of a labelling: the one with labels, and the one to be labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.draft import LABEL_NAMES, TEXT_NAMES, chosen_column, field_name
from icl.tasks.sources.base import Row
from icl.tasks.sources.cells import label_of, text_of
from icl.tasks.sources.schema import SUFFIXES
from icl.tasks.sources.tables import read_table, stored_class_names
from icl.tasks.task import Example, Labels, keyed_by_label, warn_of_near_labels
from icl.tasks.template import Fields, Template, template_fields

_MOST_LABELS = 500
_LANGUAGE = "und"  # the code of a language that nobody has named


@dataclass(frozen=True, slots=True)
class Table:
    """A table in memory.

    Attributes:
        path: its file.
        columns: all columns of any row, in the order in which they come.
        rows: the number by which a person finds each row, and what stands in it.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """What a learner adapts on.

    Attributes:
        support: the labelled rows.
        labels: their labels, sorted, with words and template.
        columns: the name of each field in templates -> its column.
        label: the column of labels.
    """

    support: tuple[Example, ...]
    labels: Labels
    columns: Mapping[str, str]
    label: str


def open_table(path: Path) -> Table:
    """Read a table whole; raises `IclError` where it is missing, empty or not what it should be."""
    if path.suffix not in SUFFIXES:
        raise IclError(f"{path} ends in none of {', '.join(SUFFIXES)}; convert it to one.")
    if not path.is_file():
        raise IclError(f"There is no file {path}; check the path.")
    rows = tuple(read_table(path))
    for column, names in (stored_class_names(path) if rows else {}).items():
        rows = tuple((number, _named(row, column, names)) for number, row in rows)
    if not rows:
        raise IclError(f"{path} has no rows; fill it.")
    columns = tuple(dict.fromkeys(str(column) for _, row in rows for column in row))
    return Table(path, columns, rows)


def _named(row: Mapping[str, Any], column: str, names: Sequence[str]) -> Mapping[str, Any]:
    place = row[column]
    known = isinstance(place, int) and 0 <= place < len(names)
    return {**row, column: names[place]} if known else row


def read_training(
    path: Path,
    *,
    text: Sequence[str] = (),
    label: str | None = None,
    words: Mapping[str, str] | None = None,
    template: str | None = None,
    instruction: str = "",
) -> Training:
    """Read labelled rows.

    Args:
        path: the table.
        text: the columns that a learner reads; none: one with a usual name, such as ``text``.
        label: the column of labels; None: one with a usual name.
        words: label -> the word that stands for it in prompts; by default the label itself.
        template: the input part of prompts, in Jinja2 over the columns' names; by default each
            field on a line of its own, and ``Label:``.
        instruction: stands once at the start of each prompt.

    Raises:
        IclError: a column is missing, a text or label is empty, there is one label only or far too
            many, or words or template name what is not there.
    """
    table = open_table(path)
    label = chosen_column(label, table.columns, LABEL_NAMES, "--label", path)
    rest = [column for column in table.columns if column != label]
    shown = [chosen_column(column, rest, (), "--text", path) for column in text]
    if not shown:
        shown = [chosen_column(None, rest, TEXT_NAMES, "--text", path)]
    columns = {field_name(column): column for column in shown}
    if len(columns) < len(shown):
        raise IclError(f"{path}: two of the columns {shown} make the same field; rename one.")
    fields = read_fields(table, columns)
    mend = "label it or remove the row"
    named = [_filled(table.path, n, row, label, mend, label_of) for n, row in table.rows]
    names = tuple(sorted(set(named)))
    _check_labels(path, label, names)
    warn_of_near_labels(names, str(path))
    try:
        words = keyed_by_label((words or {}).items())
    except ValueError as error:
        raise IclError(f"--word: {error}.") from error
    for name in words:
        if name not in names:
            raise IclError(f"--word names the label {name!r}, which {path} does not have."
                           + did_you_mean(name, names))  # fmt: skip
    support = tuple(
        Example(f"row/{number}", own, name, _LANGUAGE, f"row/{number}")
        for (number, _), own, name in zip(table.rows, fields, named, strict=True)
    )
    built = _template(template, columns, instruction)
    spoken = tuple(words.get(name, name) for name in names)
    return Training(support, Labels(names, spoken, built), columns, label)


def read_fields(table: Table, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a learner reads of each row, by field.

    Raises:
        IclError: a column is missing or a text is empty; names the file, the row and the mend.
    """
    for column in columns.values():
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise IclError(f"{table.path} has no column {column!r}.{hint}")
    return [
        {
            field: _filled(table.path, number, row, column, "fill or remove the row")
            for field, column in columns.items()
        }
        for number, row in table.rows
    ]


def _filled(
    path: Path,
    number: int,
    row: Mapping[str, Any],
    column: str,
    mend: str,
    read: Callable[[Mapping[str, Any], str], str] = text_of,
) -> str:
    try:
        value = read(row, column)
    except IclError as error:
        raise IclError(f"{path}, row {number}: {error}") from error
    if not value.strip():
        raise IclError(f"{path}, row {number}: the column {column!r} is empty; {mend}.")
    return value


def _check_labels(path: Path, column: str, names: Sequence[str]) -> None:
    if len(names) == 1:
        raise IclError(
            f"{path}: every row has the label {names[0]!r} in the column {column!r}; give examples"
            " of two labels at least, or name another column with --label."
        )
    if len(names) > _MOST_LABELS:
        raise IclError(
            f"{path}: the column {column!r} holds {len(names)} different labels, more than"
            f" {_MOST_LABELS}; name another with --label."
        )


def _template(template: str | None, columns: Fields, instruction: str) -> Template:
    if template is None:
        lines = [f"{field.capitalize()}: {{{{ {field} }}}}" for field in columns]
        return Template(input="\n".join([*lines, "Label:"]), instruction=instruction)
    unknown = sorted(template_fields(template) - set(columns))
    if unknown:
        hint = did_you_mean(unknown[0], columns)
        raise IclError(f"--template shows {unknown[0]!r}, which is no text column.{hint}")
    if not template_fields(template):
        example = next(iter(columns))
        raise IclError(f"--template shows no column; put {{{{ {example} }}}} into it.")
    return Template(input=template, instruction=instruction)

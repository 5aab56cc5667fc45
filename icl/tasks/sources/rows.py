"""From table rows to examples, each fault told with file, row and mend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.tasks.sources.base import Row
from icl.tasks.sources.cells import IncompleteError, label_of, shown, text_of, value_at
from icl.tasks.sources.schema import Columns
from icl.tasks.task import Example

if TYPE_CHECKING:
    from icl.tasks.definitions.task import TaskDefinition


def examples_from_rows(
    rows: Iterable[Row],
    where: str,
    task: TaskDefinition,
    columns: Columns,
    *,
    language: str,
    part: str,
    alone: dict[str, str],
) -> Iterator[Example]:
    """Turn the rows of one language and data split into examples, one by one.

    Args:
        rows: the number by which a person finds a row in the source, and its columns.
        where: what to call the source in errors.
        task: its kind, which says what the answer is, its labels, and what stands for them.
        columns: which column holds what.
        language: the rows' language.
        part: the data split; it stands at the front of the parallel id; "" for none.
        alone: stratum -> where its first example stands, "" once it has another; is filled in for
            tasks that draw some of the strata. With one, no episode can both show and ask for it.

    Raises:
        IclError: a column is missing, a label is unknown, a text is empty or broken, an id stands
            twice, or options are not what the definition says.
    """
    seen: dict[str, int] = {}
    for place, (number, row) in enumerate(rows, start=1):
        try:
            value_at(row, columns.label)  # without one it is incomplete, whatever else it holds
            if task.skip and label_of(row, columns.label, several=True) in task.skip:
                continue
            item = _item(row, columns.id, place)
            if item in seen:
                raise IclError(
                    f"the id {item!r} stands in row {seen[item]} already; give each row its own."
                )
            if columns.id is not None:  # row numbers cannot stand twice
                seen[item] = number
            fields = {name: shown(row, name, column) for name, column in columns.fields.items()}
            target = task.kind.target(row, columns, task)
            fields |= target.fields
            domain = "" if columns.domain is None else shown(row, "domain", columns.domain)
        except IclError as error:
            if isinstance(error, IncompleteError) and task.incomplete == "skip":
                continue
            raise IclError(f"{where}, row {number}: {error}") from error
        if task.kind.some_ways:
            stratum = task.kind.stratum(target.label)
            alone[stratum] = "" if stratum in alone else f"{where}, row {number}"
        parallel = f"{part}/{item}" if part else item
        own = f"{language}/{parallel}"
        yield Example(own, fields, target.label, language, parallel, domain)


def _item(row: Mapping[str, Any], columns: str | tuple[str, ...] | None, place: int) -> str:
    if columns is None:
        return str(place)
    parts = [text_of(row, c) for c in ((columns,) if isinstance(columns, str) else columns)]
    if not all(part.strip() for part in parts):
        raise IclError("the id is empty; give each row its own.")
    return "/".join(parts)

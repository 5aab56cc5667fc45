"""From table rows to examples, each fault told with file, row and mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.tasks.sources.base import Row
from icl.tasks.sources.cells import IncompleteError, label_of, shown, text_of, value_at
from icl.tasks.sources.schema import Columns
from icl.tasks.task import Example

if TYPE_CHECKING:
    from icl.tasks.definitions.task import TaskDefinition


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one language and data split.

    Attributes:
        where: what to call the source in errors.
        rows: the number by which a person finds a row in the source, and its columns.
    """

    where: str
    rows: Iterable[Row]


class LabelRows:
    """Counts the examples of each label: with one, no episode can both show it and ask for it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def note(self, label: str, where: str) -> None:
        """Count an example that stands there."""
        self._counts[label] += 1
        self._first.setdefault(label, where)

    def lone(self) -> dict[str, str]:
        """Return label -> where its example stands, for the labels that have only one."""
        return {label: self._first[label] for label, count in self._counts.items() if count == 1}


def examples_from_rows(
    rows: Rows,
    task: TaskDefinition,
    columns: Columns,
    *,
    language: str,
    part: str,
    counts: LabelRows | None = None,
) -> Iterator[Example]:
    """Turn the rows of one language and data split into examples, one by one.

    Args:
        rows: where they come from and what they hold.
        task: its kind, which says what the answer is, its labels, and what stands for them.
        columns: which column holds what.
        language: the rows' language.
        part: the data split; it stands at the front of the parallel id; "" for none.
        counts: where the labels are counted of tasks that draw some of them.

    Raises:
        IclError: a column is missing, a label is unknown, a text is empty or broken, an id stands
            twice, or options are not what the definition says.
    """
    seen: dict[str, int] = {}
    for place, (number, row) in enumerate(rows.rows, start=1):
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
            raise IclError(f"{rows.where}, row {number}: {error}") from error
        if counts is not None and task.kind.some_ways:
            counts.note(task.kind.stratum(target.label), f"{rows.where}, row {number}")
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

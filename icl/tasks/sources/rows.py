"""From table rows to examples, each fault told with file, row and mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import Row
from icl.tasks.sources.cells import IncompleteError, label_of, shown, text_of, value_at
from icl.tasks.sources.schema import Columns
from icl.tasks.task import Example, label_name

if TYPE_CHECKING:
    from icl.tasks.definitions.family import TaskDefinition


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
        task: its labels, and what stands in the data for them.
        columns: which column holds what.
        language: the rows' language.
        part: the data split; it stands at the front of the parallel id; "" for none.
        counts: where the labels of a classification task are counted.

    Raises:
        IclError: a column is missing, a label is unknown, a text is empty or broken, an id stands
            twice, or options are not what the definition says.
    """
    seen: dict[str, int] = {}
    for place, (number, row) in enumerate(rows.rows, start=1):
        try:
            raw = label_of(row, columns.label, several=task.kind == "generation")
            if raw in task.skip:
                continue
            item = _item(row, columns.id, place)
            if item in seen:
                raise IclError(
                    f"the id {item!r} stands in row {seen[item]} already; give each row its own."
                )
            if columns.id is not None:  # row numbers cannot stand twice
                seen[item] = number
            fields = {name: shown(row, name, column) for name, column in columns.fields.items()}
            if task.kind == "multiple_choice":
                options = _options(row, columns.options, task.labels)
                label = _choice(raw, options, task)
                fields |= options
            elif task.kind == "generation":
                label = shown(row, "reference", columns.label)
            else:
                label = _label(raw, task)
            domain = "" if columns.domain is None else shown(row, "domain", columns.domain)
        except IclError as error:
            if isinstance(error, IncompleteError) and task.incomplete == "skip":
                continue
            raise IclError(f"{rows.where}, row {number}: {error}") from error
        if counts is not None and task.kind == "classification":
            counts.note(label, f"{rows.where}, row {number}")
        parallel = f"{part}/{item}" if part else item
        own = f"{language}/{parallel}"
        yield Example(own, fields, label, language, parallel, domain)


def _item(row: Mapping[str, Any], columns: str | tuple[str, ...] | None, place: int) -> str:
    if columns is None:
        return str(place)
    parts = [text_of(row, c) for c in ((columns,) if isinstance(columns, str) else columns)]
    if not all(part.strip() for part in parts):
        raise IclError("the id is empty; give each row its own.")
    return "/".join(parts)


def _label(raw: str, task: TaskDefinition) -> str:
    label = task.label_map.get(raw, raw)
    if label not in task.labels:
        known = [*task.labels, *task.label_map]
        raise IclError(
            f"the label {raw!r} is not in the definition; add it to `labels`, `label_map` or "
            f"`skip`, or correct the row.{did_you_mean(raw, known)}"
        )
    return label


def _options(
    row: Mapping[str, Any], columns: str | tuple[str, ...] | None, labels: tuple[str, ...]
) -> dict[str, str]:
    """Return label -> the option's text."""
    if isinstance(columns, str):
        values = value_at(row, columns)
        if not isinstance(values, list | tuple):
            raise IclError(f"the column {columns!r} holds no list of options; give one.")
        if len(values) != len(labels):
            raise IncompleteError(
                f"there are {len(values)} options and {len(labels)} labels; give one each, or "
                "leave such rows out with `incomplete: skip`."
            )
        columns = tuple(f"{columns}.{place}" for place in range(len(values)))
    options = {
        label: shown(row, f"option {label}", column)
        for label, column in zip(labels, columns or (), strict=True)
    }
    seen: dict[str, str] = {}
    for label, text in options.items():
        first = seen.setdefault(label_name(text), label)  # as the right one is looked up
        if first != label:
            raise IncompleteError(f"the options {first!r} and {label!r} are the same; mend one.")
    return options


def _choice(raw: str, options: Mapping[str, str], task: TaskDefinition) -> str:
    label = task.label_map.get(raw, raw)
    by_text = next((name for name, text in options.items() if label_name(text) == raw), None)
    if label in task.labels:
        if by_text not in (None, label) and raw not in task.label_map:
            raise IclError(
                f"the answer {raw!r} is a label, and the text of the option {by_text!r} too; give"
                " the labels other names, or say in `label_map` which it is."
            )
        return label
    if by_text is not None:
        return by_text
    known = [*task.label_map, *task.labels, *options.values()]
    raise IclError(
        f"the answer {raw!r} is neither a label nor an option; correct it, or say in `label_map` "
        f"which it is.{did_you_mean(raw, known)}"
    )

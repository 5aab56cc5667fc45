"""Examples that stay in a memory-mapped Arrow file, however many they are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from icl.errors import IclError, did_you_mean
from icl.tasks.task import Example

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1 << 13  # rows read at once when going through the whole file
_WRITTEN = 1 << 16  # rows in a batch of a written file: large ones are quicker to take from


class ArrowExamples(Sequence[Example]):
    """The rows of an Arrow IPC file as examples, read when they are asked for.

    The file is memory-mapped: the operating system holds the pages in use and may let go of
    them, so a task of millions of rows costs no more memory than its index.

    Args:
        path: an Arrow IPC file, e.g. one that `parquet_to_arrow` wrote.
        fields: the text columns, shown under their own names.
        label: the column of label names.
        language: the language of all rows.
        id_column: a column of ids, unique; None: the row number is the id.
        parallel_column: a column of ids shared with translations; None: the id.
        domain_column: a column that names the domain; None: there is none.

    Raises:
        IclError: the file cannot be read as Arrow, or a column is missing, is not of strings, or
            has an empty cell.
    """

    def __init__(
        self,
        path: Path,
        *,
        fields: Sequence[str],
        label: str,
        language: str,
        id_column: str | None = None,
        parallel_column: str | None = None,
        domain_column: str | None = None,
    ) -> None:
        import pyarrow as pa

        try:
            self._table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise IclError(f"{path} cannot be read as an Arrow file ({error}).") from error
        optional = (id_column, parallel_column, domain_column)
        asked = [*fields, label, *(c for c in optional if c is not None)]
        for name in asked:
            if name not in self._table.column_names:
                raise IclError(
                    f"{path} has no column {name!r}." + did_you_mean(name, self._table.column_names)
                )
            _check_strings(path, name, self._table.column(name))
        self._fields = tuple(fields)
        self._language = language
        self._columns = {name: self._table.column(name) for name in asked}
        self._batches = self._table.select(sorted(self._columns)).to_batches()
        self._starts = [0, *itertools.accumulate(len(batch) for batch in self._batches)]
        self._label, self._id, self._parallel = label, id_column, parallel_column
        self._domain = domain_column

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        row = place + len(self) if place < 0 else place
        if not 0 <= row < len(self):
            raise IndexError(place)
        values = {name: [column[row].as_py()] for name, column in self._columns.items()}
        return self._examples([row], values)[0]

    def take(self, rows: Sequence[int]) -> list[Example]:
        """Return the examples of ascending row numbers, many times faster than one by one."""
        import pyarrow as pa

        values: dict[str, list[str]] = {name: [] for name in self._columns}
        numbers = np.asarray(rows, dtype=np.int64)
        edges = np.searchsorted(numbers, self._starts)
        for place, batch in enumerate(self._batches):
            inside = numbers[edges[place] : edges[place + 1]]
            if len(inside):
                part = batch.take(pa.array(inside - self._starts[place]))
                for name, cells in values.items():
                    cells.extend(part.column(name).to_pylist())
        return self._examples(rows, values)

    def __iter__(self) -> Iterator[Example]:
        """Go through the file batch by batch, which is much faster than row by row."""
        for start in range(0, len(self), _BATCH):
            batch = self._table.slice(start, _BATCH)
            values = {name: batch.column(name).to_pylist() for name in self._columns}
            yield from self._examples(range(start, start + batch.num_rows), values)

    def _examples(self, rows: Sequence[int], values: Mapping[str, list[str]]) -> list[Example]:
        ids = [str(row) for row in rows] if self._id is None else values[self._id]
        parallel = ids if self._parallel is None else values[self._parallel]
        shown = zip(*(values[name] for name in self._fields), strict=True)
        domains = [""] * len(ids) if self._domain is None else values[self._domain]
        columns = zip(ids, shown, values[self._label], parallel, domains, strict=True)
        names, language = self._fields, self._language
        return [
            Example(own, dict(zip(names, cells, strict=True)), label, language, item, domain)
            for own, cells, label, item, domain in columns
        ]


def _check_strings(path: Path, name: str, column: pa.ChunkedArray) -> None:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise IclError(f"{path}: the column {name!r} is of {column.type}; write it as strings.")
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise IclError(f"{path}, row {row}: the column {name!r} is empty; fill it or drop the row.")


def parquet_to_arrow(source: Path, target: Path) -> None:
    """Write a Parquet file as an Arrow IPC file that can be memory-mapped, a batch at a time.

    The target appears whole or not at all.

    Raises:
        IclError: the source cannot be read or the target cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetFile(source) as parquet:
            schema = parquet.schema_arrow
            with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in parquet.iter_batches(batch_size=_WRITTEN):
                    writer.write_batch(batch)
        draft.replace(target)
    except (OSError, pa.ArrowInvalid) as error:
        draft.unlink(missing_ok=True)
        raise IclError(f"{source} cannot be written as {target} ({error}).") from error

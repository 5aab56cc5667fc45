"""Examples that stay in a memory-mapped Arrow file, however many they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from icl.errors import IclError, did_you_mean
from icl.tasks.task import Example

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 8192  # rows read at once when going through the whole file


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

    Raises:
        IclError: the file cannot be read as Arrow, or lacks a column.
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
    ) -> None:
        import pyarrow as pa

        try:
            self._table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise IclError(f"{path} cannot be read as an Arrow file ({error}).") from error
        asked = [*fields, label, *(c for c in (id_column, parallel_column) if c is not None)]
        for name in asked:
            if name not in self._table.column_names:
                raise IclError(
                    f"{path} has no column {name!r}." + did_you_mean(name, self._table.column_names)
                )
        self._fields = tuple(fields)
        self._language = language
        self._columns = {name: self._table.column(name) for name in asked}
        self._label, self._id, self._parallel = label, id_column, parallel_column

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
        return self._example(row, {n: c[row].as_py() for n, c in self._columns.items()})

    def __iter__(self) -> Iterator[Example]:
        """Go through the file batch by batch, which is much faster than row by row."""
        for start in range(0, len(self), _BATCH):
            batch = self._table.slice(start, _BATCH)
            columns = {name: batch.column(name).to_pylist() for name in self._columns}
            for offset in range(batch.num_rows):
                values = {name: column[offset] for name, column in columns.items()}
                yield self._example(start + offset, values)

    def _example(self, row: int, values: dict[str, Any]) -> Example:
        own = str(row) if self._id is None else values[self._id]
        return Example(
            id=own,
            fields={name: values[name] for name in self._fields},
            label=values[self._label],
            language=self._language,
            parallel_id=own if self._parallel is None else values[self._parallel],
        )


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
                for batch in parquet.iter_batches(batch_size=_BATCH):
                    writer.write_batch(batch)
        draft.replace(target)
    except (OSError, pa.ArrowInvalid) as error:
        draft.unlink(missing_ok=True)
        raise IclError(f"{source} cannot be written as {target} ({error}).") from error

"""Examples in memory while they are few, in a memory-mapped Arrow file when they are many."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from icl.errors import IclError
from icl.tasks.task import Example
from icl.tools.cache import cache_dir

if TYPE_CHECKING:
    import pyarrow as pa

MOST_IN_MEMORY = 100_000
_BATCH = 1 << 13  # rows read at once when going through the whole file
_WRITTEN = 1 << 16  # rows in a batch of a written file: large ones are quicker to take from
# Beside the fields, which come first; no field has such a name: a template could not say it.
_OWN = {"icl.id": "id", "icl.label": "label", "icl.parallel": "parallel_id", "icl.domain": "domain"}


def held(examples: Iterable[Example], language: str) -> Sequence[Example]:
    """Hold the examples of a task in a language, all with the same fields.

    Past `MOST_IN_MEMORY` they go to an Arrow file in the cache directory, which has no name any
    more once it is mapped, so that it is gone with the process.

    Raises:
        IclError: the cache directory cannot be written.
    """
    rest = iter(examples)
    first = list(itertools.islice(rest, MOST_IN_MEMORY))
    more = next(rest, None)
    if more is None:
        return tuple(first)
    folder = cache_dir() / "examples"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".arrow", delete=False) as file:
            path = Path(file.name)
        try:
            write_examples(path, itertools.chain(first, [more], rest), tuple(first[0].fields))
            return ArrowExamples(path, language)
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that is mapped
                path.unlink()
    except OSError as error:
        raise IclError(
            f"{folder} cannot be written ({error.strerror}); free the disk, or name another cache "
            "directory in ICL_CACHE."
        ) from error


def write_examples(path: Path, examples: Iterator[Example], fields: Sequence[str]) -> None:
    """Write examples with these fields as a file for `ArrowExamples`."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in (*fields, *_OWN)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while batch := list(itertools.islice(examples, _WRITTEN)):
            columns = [[e.fields[name] for e in batch] for name in fields]
            columns += [[getattr(e, name) for e in batch] for name in _OWN.values()]
            arrays = [pa.array(cells, pa.string()) for cells in columns]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


class ArrowExamples(Sequence[Example]):
    """Examples in one language that `write_examples` wrote, read when they are asked for.

    The file is memory-mapped: the operating system holds the pages in use and may let go of
    them, so a task of millions of rows costs no more memory than its index.
    """

    def __init__(self, path: Path, language: str) -> None:
        import pyarrow as pa

        self._table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._language = language
        self._batches = self._table.to_batches()
        self._starts = [0, *itertools.accumulate(len(batch) for batch in self._batches)]

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
        return next(self._examples(self._table.slice(row, 1).to_pydict()))

    def take(self, rows: Sequence[int]) -> list[Example]:
        """Return the examples of ascending row numbers, many times faster than one by one."""
        import pyarrow as pa

        found: list[Example] = []
        numbers = np.asarray(rows, dtype=np.int64)
        edges = np.searchsorted(numbers, self._starts)
        for place, batch in enumerate(self._batches):
            inside = numbers[edges[place] : edges[place + 1]]
            if len(inside):
                part = batch.take(pa.array(inside - self._starts[place]))
                found += self._examples(part.to_pydict())
        return found

    def __iter__(self) -> Iterator[Example]:
        """Go through the file batch by batch, which is much faster than row by row."""
        for start in range(0, len(self), _BATCH):
            yield from self._examples(self._table.slice(start, _BATCH).to_pydict())

    def _examples(self, values: Mapping[str, list[str]]) -> Iterator[Example]:
        *shown, ids, labels, parallel, domains = values.values()
        names = list(values)[: len(shown)]
        columns = zip(ids, zip(*shown, strict=True), labels, parallel, domains, strict=True)
        for own, cells, label, item, domain in columns:
            fields = dict(zip(names, cells, strict=True))
            yield Example(own, fields, label, self._language, item, domain)

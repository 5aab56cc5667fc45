"""Examples in memory while they are few, in a memory-mapped file when they are many."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from icl.errors import IclError
from icl.tasks.sources.arrow import ArrowExamples
from icl.tasks.task import Example
from icl.tools.cache import cache_dir

if TYPE_CHECKING:
    import pyarrow as pa

MOST_IN_MEMORY = 100_000
_BATCH = 1 << 16
# No field has such a name: a template could not say it.
_ID, _LABEL, _PARALLEL, _DOMAIN = "icl.id", "icl.label", "icl.parallel", "icl.domain"


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
            _write(path, itertools.chain(first, [more], rest), tuple(first[0].fields))
            return ArrowExamples(
                path,
                fields=tuple(first[0].fields),
                label=_LABEL,
                language=language,
                id_column=_ID,
                parallel_column=_PARALLEL,
                domain_column=_DOMAIN,
            )
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that is mapped
                path.unlink()
    except OSError as error:
        raise IclError(
            f"{folder} cannot be written ({error.strerror}); free the disk, or name another cache "
            "directory in ICL_CACHE."
        ) from error


def _write(path: Path, examples: Iterator[Example], fields: Sequence[str]) -> None:
    import pyarrow as pa

    names = (*fields, _ID, _LABEL, _PARALLEL, _DOMAIN)
    schema = pa.schema([(name, pa.string()) for name in names])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while batch := list(itertools.islice(examples, _BATCH)):
            writer.write_batch(_batch(batch, fields, schema))


def _batch(examples: Sequence[Example], fields: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [[e.fields[name] for e in examples] for name in fields]
    columns += [
        [e.id for e in examples],
        [e.label for e in examples],
        [e.parallel_id for e in examples],
        [e.domain for e in examples],
    ]
    return pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=schema)

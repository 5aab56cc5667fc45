"""Rows of local tables: JSON Lines, JSON, CSV, TSV, Parquet, Arrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.tasks.sources.base import Row
from icl.tasks.sources.delimited import csv_rows, text_lines, tsv_rows, twice

_BATCH = 4096


def read_table(path: Path) -> Iterator[Row]:
    """Read a table, row by row, in the format that its ending names.

    Rows are numbered as a person finds them: by line in JSON Lines, by line of the row's end in
    CSV and TSV (the header is line 1), from 1 otherwise. Text is UTF-8.

    Raises:
        IclError: the file cannot be read or is not what its ending says.
    """
    return _READERS[path.suffix](path)


def _parse(text: str) -> Any:
    """Parse JSON strictly: no NaN, no key twice."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)


def read_json(path: Path) -> Any:
    """Read a JSON file whole; raises `IclError` with file and line."""
    text = "".join(line for _, line in text_lines(path))
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        where = f"{path}, row {error.lineno}"
        raise IclError(f"{where}: not valid JSON ({error.msg}); mend it.") from error
    except (ValueError, RecursionError) as error:
        raise IclError(f"{path}: not valid JSON ({error}); mend it.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {twice([name for name, _ in pairs])!r} stands twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            row = _parse(line)
        except RecursionError as error:
            raise IclError(f"{path}, row {number}: nested too deeply; flatten it.") from error
        except ValueError as error:
            reason = getattr(error, "msg", None) or str(error)
            raise IclError(f"{path}, row {number}: not valid JSON ({reason}); mend it.") from error
        if not isinstance(row, dict):
            raise IclError(f"{path}, row {number}: not a JSON object; write {{…}} a line.")
        yield number, row


def _json(path: Path) -> Iterator[Row]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise IclError(f"{path} is no list of rows; write [{{…}}, {{…}}], or use JSON Lines.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise IclError(f"{path}, row {number}: not a JSON object; write {{…}} for each row.")
        yield number, row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_BATCH)

    return _arrow_rows(path, "Parquet", batches)


def _arrow(path: Path) -> Iterator[Row]:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as source:
            found = _opened(source)
            is_file = isinstance(found, pa.ipc.RecordBatchFileReader)
            yield from map(found.get_batch, range(found.num_record_batches)) if is_file else found

    return _arrow_rows(path, "Arrow", batches)


def _opened(source: Any) -> Any:
    """Open Arrow in its file format, or in the stream format, which `datasets` writes."""
    import pyarrow as pa

    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def stored_class_names(path: Path) -> dict[str, list[str]]:
    """Return column -> names of classes that `datasets` stored as numbers in Parquet or Arrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        metadata = pq.read_schema(path).metadata
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as source:
            metadata = _opened(source).schema.metadata
    else:
        return {}
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):  # other programs' files
        return {}
    return {
        column: list(feature["names"])
        for column, feature in features
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _arrow_rows(path: Path, kind: str, batches: Callable[[], Iterator[Any]]) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches():
            if (again := twice(batch.schema.names)) is not None:
                raise IclError(f"{path}: the column {again!r} stands twice; rename one.")
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise IclError(f"{path} cannot be read as {kind}: {reason}; write it again.") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": _parquet,
    ".arrow": _arrow,
}

"""Rows of local tables: JSON Lines, JSON, CSV, TSV, Parquet, Arrow."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from icl.errors import IclError
from icl.tasks.rows import Row

_BATCH = 4096


def read_table(path: Path) -> Iterator[Row]:
    """Read a table, row by row, in the format that its ending names.

    Rows are numbered as a person finds them: by line in JSON Lines, by line of the row's end in
    CSV and TSV (the header is line 1), from 1 otherwise. Text is UTF-8. In TSV, quotes are plain
    characters.

    Raises:
        IclError: the file cannot be read or is not what its ending says.
    """
    return _READERS[path.suffix](path)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read a text file by lines, line ends kept; raises `IclError` for one that is not UTF-8."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise IclError(
            f"{path}, row {number}: not UTF-8 text (byte {error.start + 1} of the row); save the "
            "file as UTF-8."
        ) from error
    except OSError as error:
        raise IclError(f"{path} cannot be read: {error.strerror}; check the path.") from error


def parse_json(text: str, where: str) -> Any:
    """Parse JSON strictly: no NaN, no key twice; raises `IclError` with the place."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError as error:
        raise IclError(f"{where}: nested too deeply; flatten it.") from error
    except ValueError as error:
        reason = getattr(error, "msg", None) or str(error)
        raise IclError(f"{where}: not valid JSON ({reason}); mend it.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file whole; raises `IclError` with file and line."""
    text = "".join(line for _, line in text_lines(path))
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = f"{path}, row {error.lineno}"
        raise IclError(f"{where}: not valid JSON ({error.msg}); mend it.") from error
    except (ValueError, RecursionError) as error:
        raise IclError(f"{path}: not valid JSON ({error}); mend it.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, row {number}")
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


def _delimited(path: Path, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Row]:
    lines = (line for _, line in text_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(reader, [])
        for name in header:
            if not name.strip() or header.count(name) > 1:
                what = "stands twice" if name.strip() else "has no name"
                raise IclError(f"{path}, row 1: the column {name!r} {what}; rename it.")
        if not header:
            raise IclError(f"{path} is empty; its first line names the columns.")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise IclError(
                    f"{path}, row {reader.line_num}: {len(values)} values in {len(header)} "
                    "columns; quote a value that holds the delimiter."
                )
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise IclError(
            f"{path}, row {reader.line_num}: not valid CSV ({error}); mend it."
        ) from error


def _csv(path: Path) -> Iterator[Row]:
    return _delimited(path, ",", csv.QUOTE_MINIMAL)


def _tsv(path: Path) -> Iterator[Row]:
    return _delimited(path, "\t", csv.QUOTE_NONE)


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
            if source.read(6) == b"ARROW1":  # the file format; `datasets` writes the stream format
                file = pa.ipc.open_file(source)
                for place in range(file.num_record_batches):
                    yield file.get_batch(place)
            else:
                source.seek(0)
                yield from pa.ipc.open_stream(source)

    return _arrow_rows(path, "Arrow", batches)


def _arrow_rows(path: Path, kind: str, batches: Callable[[], Iterator[Any]]) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches():
            names = batch.schema.names
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise IclError(f"{path}: the column {twice!r} stands twice; rename one.")
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise IclError(f"{path} cannot be read as {kind}: {reason}; write it again.") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}

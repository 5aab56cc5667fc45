"""Writing a table in the format that a file's ending names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.tasks.sources.schema import as_text
from icl.tools.disk import draft_of

ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, TSV, JSON Lines, JSON or Parquet; the file appears when it is whole.

    Raises:
        IclError: it cannot be written, or a column holds values of several kinds in Parquet.
    """
    try:
        with draft_of(path) as draft:
            if path.suffix == ".parquet":
                _parquet(draft, columns, rows)
            elif path.suffix == ".jsonl":
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                draft.write_text(text, "utf-8")
            elif path.suffix == ".json":
                text = json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n"
                draft.write_text(text, "utf-8")
            else:
                _delimited(draft, columns, rows, "\t" if path.suffix == ".tsv" else ",")
            draft.replace(path)
    except OSError as error:
        raise IclError(f"{path} cannot be written: {error.strerror or error}.") from error


def _delimited(
    draft: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], mark: str
) -> None:
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    with draft.open("w", encoding="utf-8", newline="") as file:
        for row in cells:
            file.write(mark.join(_quoted(cell, mark) for cell in row) + "\n")


def _quoted(cell: str, mark: str) -> str:
    if not any(sign in cell for sign in (mark, '"', "\n", "\r")):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = as_text(value)
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)


def _parquet(draft: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.table({column: [row.get(column) for row in rows] for column in columns})
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise IclError(
            "A column holds values of several kinds, which Parquet cannot carry; name an --out that"
            " ends in .csv or .jsonl."
        ) from error
    pq.write_table(table, draft)

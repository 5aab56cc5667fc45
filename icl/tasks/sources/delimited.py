"""Rows of CSV and TSV, and a text file's lines."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from icl.errors import IclError
from icl.tasks.sources.base import Row

_LONGEST = 2**31 - 1
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=\t|\Z)')
_OPEN = re.compile(r'"[^"]*(?:""[^"]*)*\Z')


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


def csv_rows(path: Path) -> Iterator[Row]:
    """Read CSV as RFC 4180 has it, with fields of any length; raises `IclError` with the row."""
    csv.field_size_limit(_LONGEST)  # its own limit, 131,072 characters, is less than a long text
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    begins = 1
    try:
        header = next(reader, [])
        _check_header(path, header, ";\t|")
        begins = reader.line_num + 1
        for values in reader:
            if values:
                yield _row(path, reader.line_num, header, values)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise IclError(
            f"{path}, row {begins}: not valid CSV ({error}); quote a value that holds a comma, a"
            " quote or a line break, and double the quotes in it."
        ) from error


def tsv_rows(path: Path) -> Iterator[Row]:
    """Read TSV, quoted as spreadsheets and pandas write it, or not at all; errors as in CSV.

    A field is quoted where it begins with a quote and the closing one ends it; any other quote is
    a character, as in ``5" pipe``. Where both readings of a line could be, the one counts that
    gives as many values as there are columns.
    """
    lines = _Lines(text_lines(path))
    _, first = lines.take() or (1, "")
    header = _cells(_bare(first))[0] if _bare(first) else []
    _check_header(path, header, ",;|")
    while (line := lines.take()) is not None:
        number, text = line[0], _bare(line[1])
        if not text:
            continue
        values, is_open = _cells(text)
        if is_open and not _stands_alone(text, lines, len(header)):
            number, values = _joined(path, line, lines, len(header))
        else:
            plain = text.split("\t")
            values = plain if len(values) != len(header) == len(plain) else values
            if any("\r" in value for value in set(plain).intersection(values)):
                raise IclError(f"{path}, row {number}: a carriage return stands outside quotes;"
                               " quote its value, or end lines with \\n.")  # fmt: skip
        yield _row(path, number, header, values)


class _Lines:
    """Numbered lines of which some may be put back."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self._back: deque[tuple[int, str]] = deque()

    def take(self) -> tuple[int, str] | None:
        return self._back.popleft() if self._back else next(self._lines, None)

    def put_back(self, lines: Sequence[tuple[int, str]]) -> None:
        self._back.extendleft(reversed(lines))


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _cells(text: str) -> tuple[list[str], bool]:
    """Return a line's values, and whether one of them may go on in the next line."""
    values, is_open, place = [], False, 0
    while True:
        quoted = _QUOTED.match(text, place)
        if quoted:
            values.append(quoted[1].replace('""', '"'))
            place = quoted.end()
        else:
            is_open = is_open or _OPEN.match(text, place) is not None
            end = text.find("\t", place)
            end = len(text) if end < 0 else end
            values.append(text[place:end])
            place = end
        if place == len(text):
            return values, is_open
        place += 1


def _stands_alone(text: str, lines: _Lines, columns: int) -> bool:
    """Tell whether a line with an open quote is whole: it and the next have all columns."""
    if columns == 1 or text.count("\t") + 1 != columns:
        return False
    following = lines.take()
    if following is None:
        return True
    lines.put_back([following])
    after = _bare(following[1])
    return columns in (len(_cells(after)[0]), after.count("\t") + 1)


def _joined(
    path: Path, first: tuple[int, str], lines: _Lines, columns: int
) -> tuple[int, list[str]]:
    """Read a value that was quoted over several lines; return the last one's number, and values."""
    parts = [first]
    quotes = first[1].count('"')
    while quotes % 2 and (line := lines.take()) is not None:
        parts.append(line)
        quotes += line[1].count('"')
    values, is_open = _cells(_bare("".join(text for _, text in parts)))
    if len(parts) > 1 and not is_open and len(values) == columns:
        return parts[-1][0], values
    lines.put_back(parts[1:])
    values = _bare(first[1]).split("\t")
    if len(values) != columns:
        raise IclError(
            f"{path}, row {first[0]}: a value that begins with a quote is not closed before a tab"
            " or a line's end; close it, and double the quotes in it."
        )
    return first[0], values


def _check_header(path: Path, header: Sequence[str], others: str) -> None:
    """Raise `IclError` for columns that cannot be told apart; the first may be an index's."""
    if not header:
        raise IclError(f"{path} is empty; its first line names the columns.")
    if any("\r" in name for name in header):
        raise IclError(f"{path}: its lines end with \\r alone; save it with \\n line ends.")
    other = next((mark for mark in others if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise IclError(
            f"{path} has the single column {header[0][:60]!r}: its values seem to be separated by"
            f" {other!r}; save it with commas as .csv, or with tabs as .tsv."
        )
    for place, name in enumerate(header):
        if not name.strip() and (place or len(header) == 1):  # pandas writes an index without one
            raise IclError(f"{path}, row 1: the column {name!r} has no name; rename it.")
    if (again := twice(header)) is not None:
        raise IclError(f"{path}, row 1: the column {again!r} stands twice; rename it.")


def _row(path: Path, number: int, header: Sequence[str], values: Sequence[str]) -> Row:
    if len(values) != len(header):
        mark = "tab" if path.suffix == ".tsv" else "comma"
        raise IclError(
            f"{path}, row {number}: {len(values)} values in {len(header)} columns; quote a value"
            f" that holds a {mark}, or mend the row."
        )
    return number, dict(zip(header, values, strict=True))


def twice(names: Sequence[str]) -> str | None:
    """Return the first name that stands a second time, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.errors import IclError
from icl.tasks.sources.schema import SUFFIXES
from icl.tasks.sources.tables import read_table
from tests.tasks.helpers import family, source

ROWS = [
    {"id": "1", "text": 'Ein "gutes" Wort, ja', "label": "good"},
    {"id": "2", "text": "كلمة سيئة", "label": "bad"},
    {"id": "3", "text": "良い", "label": "good"},
]


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(out.getvalue().encode())
    elif path.suffix == ".tsv":
        out = io.StringIO()
        quoted = csv.DictWriter(out, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
        quoted.writeheader()
        quoted.writerows(rows)
        path.write_bytes(out.getvalue().encode())
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    write_table(tmp_path / f"rows{suffix}", ROWS)
    toy = family(tmp_path, sources=source(file=f"rows{suffix}"))
    assert [(e.id, e.text, e.label) for e in toy.load("mood", "en").examples] == [
        (f"en/all/{row['id']}", row["text"], row["label"]) for row in ROWS
    ]


def test_arrow_files_are_read_beside_arrow_streams(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    assert [row for _, row in read_table(path)] == ROWS


def test_a_byte_order_mark_and_blank_lines_are_no_part_of_the_data(tmp_path: Path) -> None:
    for suffix, text in ((".csv", "id,text\n1,a\n\n2,b\n"), (".jsonl", '{"id":1}\n\n{"id":2}\n\n')):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [str(row["id"]) for _, row in read_table(path)] == ["1", "2"]


TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), min_size=1, max_size=20
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.sampled_from(SUFFIXES))
def test_any_text_survives_any_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("t") / f"x{suffix}"
    table = [{"a": a, "b": b} for a, b in rows]
    write_table(path, table)
    assert [row for _, row in read_table(path)] == table


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \xe9}', r"x.jsonl, row 2: not UTF-8 text \(byte 7"),
        ("x.jsonl", '{"a": 1}'.encode("utf-16"), "row 1: not UTF-8"),
        ("x.jsonl", b'{"a": 1, "a": 2}', r"row 1: .*the key 'a' stands twice"),
        ("x.jsonl", b'{"a": NaN}', "row 1: .*NaN is no JSON"),
        ("x.jsonl", b"[" * 100_000, "nested too deeply|not valid JSON"),
        ("x.jsonl", b'{"a": 1}\n\n[2]', "row 3: not a JSON object"),
        ("x.json", b'{"a": 1}', "no list of rows"),
        ("x.json", b"[\n1]", "row 1: not a JSON object"),
        ("x.json", b'[\n{"a": 1},\n{"a" 2}]', "row 3: not valid JSON"),
        ("x.csv", b"a,b\n1,2\n1\n", "row 3: 1 values in 2 columns"),
        ("x.csv", b"a,a\n1,2\n", "row 1: the column 'a' stands twice"),
        ("x.csv", b"a,\n1,2\n", "row 1: the column '' has no name"),
        ("x.csv", b'a,b\n1,"2\n', "row 2: not valid CSV"),
        ("x.csv", b"a;b\n1;2,5\n", "single column 'a;b'.*separated by ';'"),
        ("x.tsv", b'a\tb\n1\t2\n"3\t4\t5\n', "row 3: a value that begins with a quote is not cl"),
        ("x.tsv", b"a\tb\r1\t2\r", "its lines end with .r alone"),
        ("x.csv", b"", "is empty; its first line names the columns"),
        ("x.tsv", b"a\tb\n1\t2\t3\n", "row 2: 3 values in 2 columns"),
        ("x.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("x.arrow", b"ARROW1 no", "cannot be read as Arrow"),
        ("x.arrow", b"", "cannot be read as Arrow"),
    ],
)
def test_what_is_not_as_its_ending_says_is_told_with_the_row(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IclError, match=expected):
        list(read_table(tmp_path / name))


HARD = [
    {"a": 'He said "no"', "b": "x"},
    {"a": '"Yes", she said', "b": '5" pipe'},
    {"a": "two\nlines\n\nand \t a tab", "b": '"'},
    {"a": "first", "b": 'last\n"column"\nof lines'},
    {"a": 'ends in "', "b": "," + "long" * 50_000},
]


@pytest.mark.parametrize("mark", [",", "\t"])
def test_what_pandas_csv_and_r_write_is_read_as_it_was(tmp_path: Path, mark: str) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / ("x.csv" if mark == "," else "x.tsv")
    frame = pandas.DataFrame(HARD)
    for options in ({"index": False}, {"index": False, "quoting": csv.QUOTE_ALL}, {}):
        frame.to_csv(path, sep=mark, **options)
        found = [dict(row) for _, row in read_table(path)]
        if not options:  # the index, whose column has no name
            assert [row.pop("") for row in found] == ["0", "1", "2", "3", "4"]
        assert found == HARD
    # R's write.table(quote = TRUE, row.names = FALSE, qmethod = "double")
    cells = [["a", "b"], *(list(row.values()) for row in HARD)]
    doubled = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in cells]
    path.write_bytes(("\r\n".join(mark.join(row) for row in doubled)).encode())
    assert [row for _, row in read_table(path)] == HARD


def test_quotes_of_a_file_that_quotes_nothing_are_characters(tmp_path: Path) -> None:
    rows = [
        ("1", '5" pipe'), ("2", '"Hello" he said'), ("3", '"Unclosed speech'), ("4", 'goes "on"'),
        ("5", 'it ends here"'), ('"6', 'a "doubled"" one'), ('"7', '8"'), ("9", '"last'),
    ]  # fmt: skip
    path = tmp_path / "x.tsv"
    path.write_text("id\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    found = list(read_table(path))
    assert [(row["id"], row["text"]) for _, row in found] == rows
    assert [number for number, _ in found] == list(range(2, 10))


def test_rows_are_numbered_by_the_line_of_their_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('id\ttext\n1\t"two\nlines"\n2\tone\n')
    assert list(read_table(path)) == [(3, {"id": "1", "text": "two\nlines"}),
                                      (4, {"id": "2", "text": "one"})]  # fmt: skip


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    for suffix in (".parquet", ".arrow"):
        path = tmp_path / f"x{suffix}"
        write_table(path, ROWS)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(IclError, match="cannot be read as"):
            list(read_table(path))

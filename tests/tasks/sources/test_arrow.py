"""Examples in a memory-mapped file are those of a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl.episodes import EpisodeSampler
from icl.errors import IclError
from icl.tasks.loaded import Task, TaskFamily
from icl.tasks.sources.arrow import ArrowExamples, parquet_to_arrow
from icl.tasks.task import Example
from tests.episodes.toy_families import regular_family

pa = pytest.importorskip("pyarrow")


def write(folder: Path, examples: list[Example]) -> Path:
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "key": [e.id for e in examples],
            "item": [e.parallel_id for e in examples],
            "text": [e.text for e in examples],
            "intent": [e.label for e in examples],
        }
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=7)
    parquet_to_arrow(folder / "rows.parquet", folder / "rows.arrow")
    return folder / "rows.arrow"


def mapped(folder: Path, task: Task) -> ArrowExamples:
    return ArrowExamples(
        write(folder, list(task.examples)),
        fields=["text"],
        label="intent",
        language=task.language,
        id_column="key",
        parallel_column="item",
    )


def test_a_mapped_file_reads_as_the_list_it_was_made_of(tmp_path: Path) -> None:
    task = regular_family().load("task0", "fr")
    examples = mapped(tmp_path, task)
    assert len(examples) == len(task.examples)
    assert list(examples) == list(task.examples)
    assert [examples[i] for i in range(len(examples))] == list(task.examples)
    assert examples[-1] == task.examples[-1]
    assert examples[3:9:2] == list(task.examples[3:9:2])
    assert examples.take([0, 3, 20, 71]) == [task.examples[i] for i in (0, 3, 20, 71)]
    with pytest.raises(IndexError):
        examples[len(examples)]


def test_episodes_from_a_mapped_file_are_those_from_a_list(tmp_path: Path) -> None:
    import dataclasses

    family = regular_family(1, ["fr"])
    task = family.load("task0", "fr")
    stored = dataclasses.replace(task, examples=mapped(tmp_path, task))
    on_disk = TaskFamily("toy", lambda *_: stored, family.splits)
    both = [
        list(EpisodeSampler(f, "test", ways=3, shots=(0, 2), queries=5).episodes(10))
        for f in (family, on_disk)
    ]
    assert both[0] == both[1]


def test_row_numbers_are_ids_where_there_are_none(tmp_path: Path) -> None:
    task = regular_family().load("task0", "fr")
    path = write(tmp_path, list(task.examples))
    examples = ArrowExamples(path, fields=["text"], label="intent", language="fr")
    assert [e.id for e in examples] == [str(i) for i in range(len(examples))]
    assert examples[5] == list(examples)[5]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, list(regular_family().load("task0", "fr").examples))
    with pytest.raises(IclError, match=r"no column 'txt'\. Did you mean 'text'"):
        ArrowExamples(path, fields=["txt"], label="intent", language="fr")
    (tmp_path / "odd.arrow").write_bytes(b"not arrow")
    with pytest.raises(IclError, match="cannot be read as an Arrow file"):
        ArrowExamples(tmp_path / "odd.arrow", fields=["text"], label="intent", language="fr")
    with pytest.raises(IclError, match="cannot be written as"):
        parquet_to_arrow(tmp_path / "none.parquet", tmp_path / "x.arrow")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_any_layout_of_strings_reads_the_same(tmp_path: Path, kind: str, batch: int) -> None:
    texts = ["", "a", "éü", "日本", "𝔘", "b" * 99] * 3
    types = {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    table = pa.table({"text": pa.array(texts).cast(types[kind]), "label": texts})
    path = tmp_path / "x.arrow"
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    examples = ArrowExamples(path, fields=["text"], label="label", language="x")
    assert [e.fields["text"] for e in examples] == texts
    assert [examples[i].fields["text"] for i in range(len(texts))] == texts
    assert [e.fields["text"] for e in examples.take(range(len(texts)))] == texts


@pytest.mark.parametrize(
    ("cells", "words"),
    [(["a", None], "row 1: the column 'text' is empty"), ([1, 2], "is of int64")],
)
def test_cells_that_are_no_strings_are_told(
    tmp_path: Path, cells: list[object], words: str
) -> None:
    table = pa.table({"text": cells, "label": ["x", "y"]})
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(IclError, match=words):
        ArrowExamples(tmp_path / "x.arrow", fields=["text"], label="label", language="x")

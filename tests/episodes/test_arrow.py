"""Examples in a memory-mapped file are those of a list."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_families import regular_family

from icl.episodes import EpisodeSampler
from icl.episodes.arrow import ArrowExamples, parquet_to_arrow
from icl.errors import IclError
from icl.tasks.task import Example, Task, TaskFamily

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

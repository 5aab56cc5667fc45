"""Many examples stay in a mapped file and are the same as a few in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl.episodes import EpisodeSampler
from icl.episodes.origin import data_hash
from icl.errors import IclError
from icl.tasks import TaskFamily
from icl.tasks.sources import spill as held
from icl.tasks.sources.spill import ArrowExamples, write_examples
from icl.tasks.sources.spill import held as hold
from icl.tasks.task import Example
from tests.episodes.toy_families import regular_family
from tests.tasks.helpers import family, source

ROWS = [
    {"id": f"r{i}", "text": f"téxt {i} 🙂", "label": ["good", "bad"][i % 2], "from": f"d{i % 3}"}
    for i in range(60)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "examples"


def load(folder: Path) -> TaskFamily:
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    columns = {"id": "id", "label": "label", "fields": {"text": "text", "source": "from"},
               "domain": "from"}  # fmt: skip
    return family(folder, sources=source(columns=columns))


@pytest.mark.parametrize("most", [1, 59])
def test_a_family_past_the_limit_is_the_same_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, most: int
) -> None:
    few = load(tmp_path)
    monkeypatch.setattr(held, "MOST_IN_MEMORY", most)
    monkeypatch.setattr(held, "_BATCH", 5)
    monkeypatch.setattr(held, "_WRITTEN", 7)
    many = load(tmp_path)
    examples = many.load("mood", "en").examples
    assert isinstance(examples, ArrowExamples)
    assert list(examples) == list(few.load("mood", "en").examples)
    assert list(cache.iterdir()) == []
    one, other = (
        EpisodeSampler(f, "test", ways=2, shots=(0, 2), queries=4, near=0.99, pool=2)
        for f in (few, many)
    )
    assert list(one.episodes(9)) == list(other.episodes(9))
    assert data_hash(one) == data_hash(other)


def test_as_many_as_the_limit_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", len(ROWS))
    assert isinstance(load(tmp_path).load("mood", "en").examples, tuple)
    assert not cache.exists()
    assert hold([], "en") == ()


def test_a_fault_past_the_limit_is_told_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 5)
    monkeypatch.setitem(ROWS[40], "label", "meh")
    with pytest.raises(IclError, match=r"rows\.jsonl, row 41: the label 'meh'"):
        load(tmp_path).load("mood", "en")
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(held, "MOST_IN_MEMORY", 0)
    with pytest.raises(IclError, match=r"cannot be written .* in ICL_CACHE"):
        hold([Example("a", {"t": "x"}, "y", "en", "a")] * 2, "en")


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_mapped_file_reads_as_the_list_it_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(held, "_WRITTEN", batch)
    listed = list(regular_family().load("task0", "fr").examples)
    write_examples(tmp_path / "x.arrow", iter(listed), tuple(listed[0].fields))
    examples = ArrowExamples(tmp_path / "x.arrow", "fr")
    assert len(examples) == len(listed)
    assert list(examples) == listed
    assert [examples[i] for i in range(len(examples))] == listed
    assert examples[-1] == listed[-1]
    assert examples[3:9:2] == listed[3:9:2]
    assert examples.take([0, 3, 20, 71]) == [listed[i] for i in (0, 3, 20, 71)]
    with pytest.raises(IndexError):
        examples[len(examples)]

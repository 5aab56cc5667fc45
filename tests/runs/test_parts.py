"""Records of several processes, and episodes that stay on disk."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from icl.episodes import Episode
from icl.errors import IclError
from icl.learners.registry import validate
from icl.runs import RecordStore
from icl.runs.entrants import Entrant, Handle
from icl.runs.episode_file import EpisodeFile
from icl.runs.folder import RunFolder
from icl.runs.runner import Runner
from tests import tiny
from tests.evaluation import small_run
from tests.evaluation.synthetic import record


def test_parts_are_read_as_one_and_gathered_without_loss_or_repetition(tmp_path: Path) -> None:
    for part, indices in ((0, (0, 1)), (1, (2, 1)), (12, (3,))):
        for index in indices:
            RecordStore(tmp_path, part).append(record(index))
    store = RecordStore(tmp_path)
    expected = [record(i) for i in range(4)]
    assert store.read() == expected
    store.gather()
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
    assert store.read() == list(store.scan()) == expected


def test_a_gathering_that_was_killed_is_taken_up_again(tmp_path: Path) -> None:
    for index in range(3):
        RecordStore(tmp_path, 1).append(record(index))
    part = (tmp_path / "records.1.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(part[: len(part) // 2])  # killed in the second line
    RecordStore(tmp_path).gather()
    assert RecordStore(tmp_path).read() == [record(i) for i in range(3)]


def test_a_torn_part_costs_only_its_last_line(tmp_path: Path) -> None:
    for index in range(3):
        RecordStore(tmp_path, 2).append(record(index))
    path = tmp_path / "records.2.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    RecordStore(tmp_path).gather()
    assert RecordStore(tmp_path).read() == [record(0), record(1)]


def test_other_files_are_no_parts(tmp_path: Path) -> None:
    RecordStore(tmp_path).append(record(0))
    for name in ("records.old.jsonl", "records.0.jsonl", "records.1.jsonl.bak"):
        (tmp_path / name).write_text("mine\n")
    store = RecordStore(tmp_path)
    assert store.read() == [record(0)]
    store.gather()
    assert len(list(tmp_path.iterdir())) == 4


def write_episodes(folder: RunFolder, episodes: Iterable[Episode]) -> None:
    with folder.drawn(episodes) as place:
        place()


def test_episodes_on_disk_are_those_that_were_written(tmp_path: Path) -> None:
    episodes = small_run.episodes(3)
    folder = RunFolder(tmp_path)
    write_episodes(folder, iter(episodes))
    found = folder.episodes()
    assert isinstance(found, EpisodeFile)
    assert list(found) == episodes == list(folder.episodes())
    assert found[-1] == episodes[-1]
    assert found[1:3] == episodes[1:3]
    assert list(found.fingerprints()) == [episode.fingerprint for episode in episodes]
    before = (tmp_path / "episodes.jsonl").stat().st_mtime_ns
    write_episodes(folder, episodes)
    assert (tmp_path / "episodes.jsonl").stat().st_mtime_ns == before  # the same are left alone
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.jsonl"]
    with pytest.raises(IclError, match="another fault"), folder.drawn(episodes[:1]):
        raise IclError("another fault")  # before they are put into their place
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.jsonl"]
    assert list(folder.episodes()) == episodes


def test_a_damaged_episode_is_one_sentence(tmp_path: Path) -> None:
    write_episodes(RunFolder(tmp_path), small_run.episodes(1))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"support"', b'"suppurt"', 1))
    with pytest.raises(IclError, match=r"Cannot read .*episodes\.jsonl"):
        RunFolder(tmp_path).episodes()[0]


def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path: Path) -> None:
    """Drawn, written, judged and kept one by one: what stays is a few hundred bytes each."""
    backbone = tiny.backbone()

    def peak(count: int) -> int:
        asked = small_run.sampler("test", (1,)).episodes(count)
        folder = RunFolder(tmp_path / str(count))
        model = Handle(lambda: backbone)
        entrant = Entrant("majority", "majority", validate("majority", {}), model)
        tracemalloc.start()
        Runner(folder, [entrant], asked, "").run()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is made once
    few, many = peak(20), peak(420)
    gc.collect()
    tracemalloc.start()
    held = list(RunFolder(tmp_path / "420").episodes())
    whole, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (many - few) / 400 < 0.4 * whole / len(held)

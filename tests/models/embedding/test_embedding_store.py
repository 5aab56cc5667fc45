"""The store of embeddings: whole records or none, whatever happens to its writers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icl.models.embedding.embedder import Embedder
from icl.models.embedding.embedding_store import WORK, EmbeddingStore, content_key, open_store
from tests import tiny_encoders

WIDTH = 300


def vector(number: int) -> np.ndarray:
    """What stands under a number's key, so that a reader can tell a right vector from a wrong."""
    return np.random.default_rng(number).standard_normal(WIDTH).astype(np.float32)


def put(store: EmbeddingStore, numbers: list[int]) -> None:
    store.write(
        [content_key(str(n)) for n in numbers],
        np.stack([vector(n) for n in numbers]),
        np.array([(n, n, n, n) for n in numbers], WORK),
    )


def right(store: EmbeddingStore, numbers: list[int]) -> int:
    """Count the numbers that are found; every one that is must have its own vector."""
    found, vectors, work = store.read([content_key(str(n)) for n in numbers])
    for i, n in enumerate(numbers):
        expected = vector(n) if found[i] else np.zeros(WIDTH, np.float32)
        np.testing.assert_array_equal(vectors[i], expected)
        assert work[i].item() == ((n,) * 4 if found[i] else (0,) * 4)
    return int(found.sum())


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_written_is_read_and_nothing_else(tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "deep" / "a.vectors" if on_disk else None
    store = EmbeddingStore(path, WIDTH)
    assert right(store, [1, 2]) == 0
    put(store, [1, 2, 3])
    assert right(store, [3, 9, 1, 2]) == 3
    if on_disk:
        assert right(EmbeddingStore(path, WIDTH), [1, 2, 3]) == 3


@pytest.mark.parametrize("cut", [1, 17, WIDTH * 4])
def test_a_torn_last_record_is_not_seen_and_the_next_writer_cuts_it_off(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "a.vectors"
    put(EmbeddingStore(path, WIDTH), [1, 2, 3])
    os.truncate(path, path.stat().st_size - cut)
    store = EmbeddingStore(path, WIDTH)
    assert right(store, [1, 2, 3]) == 2
    put(store, [3, 4])
    assert right(EmbeddingStore(path, WIDTH), [1, 2, 3, 4]) == 4


@pytest.mark.parametrize("place", [3, 18, 100, -2])  # in the key, the count, the vector, the check
def test_a_corrupt_record_is_as_if_it_were_not_there_and_can_be_written_anew(
    tmp_path: Path, place: int
) -> None:
    path = tmp_path / "a.vectors"
    put(EmbeddingStore(path, WIDTH), [1, 2, 3])
    size = path.stat().st_size // 3
    data = bytearray(path.read_bytes())
    data[size + place % size] ^= 0x40  # in the second record
    path.write_bytes(data)
    store = EmbeddingStore(path, WIDTH)
    assert right(store, [1, 2, 3]) == 2
    put(store, [2])
    assert right(store, [1, 2, 3]) == 3
    assert right(EmbeddingStore(path, WIDTH), [1, 2, 3]) == 3


def filled(folder: Path, numbers: list[int], width: int = WIDTH, name: str = "a") -> Path:
    """Make another file of the same store elsewhere, with records in this order."""
    path = folder / f"{name}.vectors"
    store = EmbeddingStore(path, width)
    if width == WIDTH:
        put(store, numbers)
    else:
        keys = [content_key(str(n)) for n in numbers]
        store.write(keys, np.ones((len(keys), width), np.float32), np.array(numbers))
    return path


Exchange = Callable[[Path, Path], object]  # puts the content of one file under the name of another
EXCHANGES: dict[str, Exchange] = {
    "replaced": lambda other, path: other.replace(path),
    "overwritten": lambda other, path: path.write_bytes(other.read_bytes()),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("numbers", [[3, 2, 1], [9, 8, 7, 2], [2]])
def test_a_file_exchanged_under_a_reader_gives_each_text_its_own_vector_or_none(
    numbers: list[int], exchange: str, tmp_path: Path
) -> None:
    path = filled(tmp_path, [1, 2, 3])
    reader = EmbeddingStore(path, WIDTH)
    assert right(reader, [1, 2, 3]) == 3
    EXCHANGES[exchange](filled(tmp_path / "other", numbers), path)
    assert right(reader, [2]) == 1
    right(reader, [1, 2, 3, *numbers])
    put(reader, [1, 3, 9])
    assert right(reader, [1, 2, 3, 9]) == 4


def test_records_of_another_store_or_width_are_none_of_this_ones(tmp_path: Path) -> None:
    path = filled(tmp_path, [1, 2, 3])
    reader = EmbeddingStore(path, WIDTH)
    assert right(reader, [1, 2, 3]) == 3
    for other in (
        filled(tmp_path / "model", [1, 2, 3, 4], name="of-another-model"),
        filled(tmp_path / "width", list(range(9)), width=WIDTH + 1),
    ):
        other.replace(path)
        assert right(reader, [1, 2, 3]) == 0
    put(reader, [1, 2])
    assert right(reader, [1, 2, 3]) == 2


def _harm(path: Path, seed: int, stop: float) -> None:
    """Do to a store's file whatever a process may, until it is time."""
    chance = random.Random(seed)
    own = path.parent / str(seed)
    store = EmbeddingStore(path, WIDTH)
    numbers = range(60)
    while time.monotonic() < stop:
        what = chance.choice(["put", "put", "put", "cut", "bytes", "gone", *EXCHANGES])
        some = chance.sample(numbers, chance.randint(1, 40))
        with contextlib.suppress(FileNotFoundError):
            if what == "put":
                put(store, some)
            elif what in EXCHANGES:
                shutil.rmtree(own, ignore_errors=True)
                EXCHANGES[what](filled(own, some, width=WIDTH + chance.randint(0, 1)), path)
            elif what == "cut":
                os.truncate(path, chance.randint(0, path.stat().st_size + 99))
            elif what == "gone":
                path.unlink()
            else:
                with path.open("r+b") as file:
                    file.seek(chance.randint(0, path.stat().st_size))
                    file.write(chance.randbytes(9))


def test_no_text_gets_anothers_vector_whatever_two_processes_do_to_the_file(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    path, stop = tmp_path / "a.vectors", time.monotonic() + 3
    others = [context.Process(target=_harm, args=(path, s, stop)) for s in (1, 2)]
    for process in others:
        process.start()
    reader, chance, seen = EmbeddingStore(path, WIDTH), random.Random(0), 0
    while any(process.is_alive() for process in others):
        seen += right(reader, chance.sample(range(60), 20))
    assert [process.exitcode for process in others] == [0, 0]
    assert seen > 0
    put(reader, list(range(60)))
    assert right(EmbeddingStore(path, WIDTH), list(range(60))) == 60
    assert right(reader, list(range(60))) == 60


def _write(path: Path, first: int) -> None:
    store = EmbeddingStore(path, WIDTH)
    for start in range(first, 4000, 7):
        put(store, list(range(start, start + 7)))


def test_writers_at_once_that_are_killed_leave_only_whole_records(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path = tmp_path / "a.vectors"
    chance = random.Random(0)
    reader = EmbeddingStore(path, WIDTH)
    killed = 0
    for turn in range(6):
        writers = [context.Process(target=_write, args=(path, 100 * turn)) for _ in range(3)]
        for process in writers:
            process.start()
        time.sleep(chance.uniform(0.02, 0.15))
        for process in writers:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        right(reader, list(range(4000)))
    assert killed >= 6
    assert right(EmbeddingStore(path, WIDTH), list(range(4000))) > 0
    put(reader, list(range(4000)))
    assert right(EmbeddingStore(path, WIDTH), list(range(4000))) == 4000


def test_a_disk_that_cannot_be_written_is_told_once_and_memory_serves(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file" / "a.vectors", WIDTH)
    with pytest.warns(UserWarning, match=r"cannot be kept in .*ICL_EMBEDDINGS"):
        put(store, [1])
    put(store, [2])
    assert right(store, [1, 2, 3]) == 2


def test_each_distinct_text_is_computed_once_for_all_embedders_of_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path))
    encoder = tiny_encoders.encoder()
    first = Embedder(encoder).embed(["abc", "de", "abc", "abc"])
    spent = encoder.meter.computed_tokens
    assert spent == 8 + 4  # two texts, each made up to a multiple of 4
    assert encoder.meter.prompt_tokens == 5 + 4 + 5 + 5
    again = Embedder(encoder).embed(["de", "abc"])
    assert encoder.meter.computed_tokens == encoder.meter.tokens == spent  # in one piece of work
    np.testing.assert_array_equal(again.numpy(), first[[1, 0]].numpy())
    Embedder(encoder, layer=1).embed(["de", "abc"])
    assert encoder.meter.computed_tokens > spent
    assert len(list(tmp_path.glob("*.vectors"))) == 2
    assert open_store("x", 3) is open_store("x", 3)


def test_what_the_store_holds_is_charged_to_each_piece_of_work_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path))
    encoder = tiny_encoders.encoder()
    Embedder(encoder).embed(["abc", "de"])
    shared = encoder.meter.shared
    assert shared.tokens == 0
    encoder.begin()
    Embedder(encoder).embed(["de"])
    Embedder(encoder).embed(["de", "abc", "new"])
    assert encoder.meter.shared.tokens == 4 + 8  # "de" and "abc"; "new" was computed
    assert encoder.meter.shared.seconds > 0 and encoder.meter.shared.flops > 0
    encoder.begin()
    Embedder(encoder).embed(["new", "de"])
    assert encoder.meter.shared.tokens == 12 + 8 + 4

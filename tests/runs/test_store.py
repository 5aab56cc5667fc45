from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.errors import IclError
from icl.runs import Cost, RecordStore, same_outcomes
from tests.evaluation.synthetic import record

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from icl.runs import RecordStore
from tests.evaluation.synthetic import record

store, first, count = RecordStore(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
for index in range(first, first + count):
    store.append(record(index, text="長" * 3000))
    print(index, flush=True)
"""


def start_writer(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_new_run_has_no_records(tmp_path):
    assert RecordStore(tmp_path / "none").read() == []


def test_what_was_appended_is_read_in_order(tmp_path):
    store = RecordStore(tmp_path / "new" / "run")
    made = [record(i, text="a\u2028b\u0085\n\0") for i in range(5)]
    for one in made:
        store.append(one)
    assert store.read() == made
    assert {one.key for one in store.scan()} == {one.key for one in made}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tail_torn_at_any_byte_costs_only_the_torn_line(data):
    lines = [(record(i, text="é漢\u2028").to_json() + "\n").encode() for i in range(3)]
    content = b"".join(lines)
    kept = data.draw(st.integers(0, len(content)), label="bytes that reached the disk")
    complete = sum(
        kept >= len(b"".join(lines[: i + 1])) - 1  # whole but for its newline counts
        for i in range(3)
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")  # a torn tail is expected, not worth a warning
        store = RecordStore(Path(folder))
        store.path.write_bytes(content[:kept])
        before = store.read()
        store.append(record(7))
        assert before == [record(i, text="é漢\u2028") for i in range(complete)]
        assert store.read() == [*before, record(7)]
        assert store.path.read_bytes().count(b"\n") == complete + 1


def test_a_tail_longer_than_one_block_is_cut_off(tmp_path):
    store = RecordStore(tmp_path)
    store.append(record(0))
    with store.path.open("ab") as file:
        file.write(b'{"learner": "' + b"x" * 200_000)
    store.append(record(1))
    assert store.read() == [record(0), record(1)]


def test_a_killed_writer_loses_no_finished_record_and_the_next_goes_on(tmp_path):
    rng = random.Random(0)
    first = 0
    for _ in range(3):
        with start_writer(tmp_path, first, 100_000) as writer:
            assert writer.stdout is not None
            confirmed = [int(writer.stdout.readline()) for _ in range(3)]
            time.sleep(rng.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            confirmed += [int(line) for line in writer.stdout]
        done = {one.key for one in RecordStore(tmp_path).scan()}
        found = {int(fingerprint, 16) for _, fingerprint in done}
        assert set(confirmed) <= found
        assert found <= set(range(first)) | set(range(first, confirmed[-1] + 2))
        first = max(found) + 1
    RecordStore(tmp_path).append(record(first))
    assert len(RecordStore(tmp_path).read()) == first + 1


def test_lines_of_several_processes_and_threads_never_interleave(tmp_path):
    writers = [start_writer(tmp_path, 1000 * i, 25) for i in range(1, 4)]
    store = RecordStore(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: store.append(record(i)), range(25)))
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(store.read()) == 100


def test_a_damaged_line_is_skipped_with_one_warning_that_names_it(tmp_path):
    store = RecordStore(tmp_path)
    for i in range(4):
        store.append(record(i))
    lines = store.path.read_bytes().split(b"\n")
    lines[1] = lines[1][:40] + b"\xff\xfe" + lines[1][42:]
    lines[2] = b"[]"
    store.path.write_bytes(b"\n".join(lines))
    with pytest.warns(UserWarning, match=r"skipped 2 damaged line\(s\) \(2, 3\)"):
        assert store.read() == [record(0), record(3)]


def test_the_first_of_two_records_with_one_key_counts(tmp_path):
    store = RecordStore(tmp_path)
    store.append(record(0))
    store.append(replace(record(0), cost=Cost(1, 1, 99.0, 1.0, 0)))
    assert store.read() == [record(0)]


@pytest.mark.parametrize("taken", [0, 1, 200])
@pytest.mark.parametrize("rollback", [True, False])
def test_a_full_disk_is_told_and_leaves_valid_records(tmp_path, monkeypatch, taken, rollback):
    store = RecordStore(tmp_path)
    store.append(record(0))
    real_write, calls = os.write, []

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1 and taken:
            return real_write(descriptor, data[:taken])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        if not rollback:
            patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(IclError, match=r"Cannot write .*records\.jsonl: No space left"):
            store.append(record(1))
    assert store.path.read_bytes().endswith(b"\n") is (rollback or not taken)
    assert store.read() == [record(0)]
    store.append(record(1))
    assert store.read() == [record(0), record(1)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always-full device")
def test_a_device_that_is_really_full_gives_one_sentence(tmp_path):
    (tmp_path / "records.jsonl").symlink_to("/dev/full")
    with pytest.raises(IclError, match="No space left on device"):
        RecordStore(tmp_path).append(record(0))


def test_a_folder_that_cannot_be_made_gives_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IclError, match="Cannot write"):
        RecordStore(tmp_path / "file" / "run").append(record(0))


def test_same_outcomes_ignores_order_and_cost_only():
    a = [record(0), record(1)]
    b = [replace(record(1), cost=Cost(0, 0, 7.0, 7.0, 0)), record(0)]
    assert same_outcomes(a, b)
    assert not same_outcomes(a, b[:1])
    assert not same_outcomes(a, [record(0), replace(record(1), predictions=(1, 1))])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"gold":[0,1]', b'"gold":[0,0]'),
        (b"-1.5", b"-2.5"),
        (b'"seconds":0.5', b'"seconds":0.4'),
        (b'"check":"', b'"check":"0'),
        (b'"}\n', b'","gold":[0,0]}\n'),  # behind the checksum, the later of two names counts
        (b'"}\n', b'","transductive":true}\n'),
        (b'"schema_version":4', b'"schema_version":2'),  # which had no checksum
    ],
)
def test_a_record_changed_by_hand_is_refused_by_name_and_left_as_it_is(tmp_path, old, new):
    store = RecordStore(tmp_path)
    for i in range(3):
        store.append(record(i))
    lines = store.path.read_bytes().splitlines(keepends=True)
    assert old in lines[1]
    store.path.write_bytes(b"".join([lines[0], lines[1].replace(old, new), lines[2]]))
    before = store.path.read_bytes()
    told = r"records\.jsonl, line 2: the record of 'prototypes' on episode 0{15}1 was changed"
    (tmp_path / "records.1.jsonl").write_bytes(lines[0])  # a part, without which none is gathered
    for use in (store.read, store.gather):
        with pytest.raises(IclError, match=told):
            use()
    assert store.path.read_bytes() == before
    store.path.write_bytes(b"".join([lines[0], lines[1].replace(old, new)]).rstrip())
    with pytest.raises(IclError, match="last line: the record of"):
        store.append(record(3))
    store.path.write_bytes(b"".join([lines[0], lines[2]]))  # the line is removed, as was said
    assert store.read() == [record(0), record(2)]

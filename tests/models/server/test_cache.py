"""Replies on disk: shared, whole, and dropped where they are of no use."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from icl.errors import IclError
from icl.models.server.kept_replies import ReplyCache


def test_the_cache_is_shared_by_threads_and_connections(tmp_path: Path) -> None:
    caches = [ReplyCache(tmp_path / "replies.sqlite") for _ in range(3)]

    def write(number: int) -> None:
        for n in range(40):
            caches[number % 3].put(f"{n}", {"n": n, "text": "слово"})
            assert caches[(number + 1) % 3].get(f"{n}") == {"n": n, "text": "слово"}

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ReplyCache(tmp_path / "replies.sqlite").get("39") == {"n": 39, "text": "слово"}
    assert caches[0].get("40") is None


def test_the_first_reply_stays(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.sqlite")
    cache.put("key", 1)
    cache.put("key", 2)
    assert cache.get("key") == 1


def test_a_damaged_cache_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(IclError, match="remove the file"):
        ReplyCache(path)


@pytest.mark.parametrize(
    "row",
    [b"", b"no zlib", zlib.compress(b"no JSON"), zlib.compress(b"{")[:-3], zlib.compress(b"\xff"),
     zlib.compress(b"[" * 200_000), "text", 7],
    ids=lambda row: repr(row)[:20],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_dropped_and_the_others_stay(tmp_path: Path, row: Any) -> None:
    cache = ReplyCache(tmp_path / "replies.sqlite")
    cache.put("good", 1)
    with sqlite3.connect(tmp_path / "replies.sqlite") as other:
        other.execute("INSERT INTO replies VALUES (?, ?)", ("bad", row))
    assert cache.get("bad") is None
    cache.put("bad", 2)
    assert (cache.get("bad"), cache.get("good")) == (2, 1)


def test_what_is_of_no_use_is_dropped(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.sqlite")
    cache.put("key", 1)
    assert cache.get("key", lambda reply: reply == 1) == 1
    assert cache.get("key", lambda reply: reply == 2) is None
    assert cache.get("key") is None


def test_a_better_reply_of_another_process_is_not_dropped_with_a_bad_one(tmp_path: Path) -> None:
    cache, other = (ReplyCache(tmp_path / "replies.sqlite") for _ in range(2))
    cache.put("key", 1)

    def judged_while_another_is_at_work(reply: Any) -> bool:
        assert other.get("key", lambda reply: False) is None
        other.put("key", 2)
        return False

    assert cache.get("key", judged_while_another_is_at_work) is None
    assert cache.get("key") == 2


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    cache, reply = ReplyCache(tmp_path / "replies.sqlite"), json.loads('"\\ud800 слово"')
    cache.put("key", reply)
    assert cache.get("key") == reply


def test_a_file_that_is_damaged_later_is_one_sentence(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.sqlite")
    with sqlite3.connect(tmp_path / "replies.sqlite") as other:
        other.execute("DROP TABLE replies")
    with pytest.raises(IclError, match="remove the file"):
        cache.get("key")

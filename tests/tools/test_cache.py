"""A folder in the cache is whole or not there, whatever happens while it is built."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.tools.cache import build_once, cache_dir, damage

_BUILDER = """
import sys, time
from pathlib import Path
from icl.tools.cache import build_once

def build(draft):
    (draft / "one").write_text("1" * 1000)
    (draft / "sub").mkdir()
    (draft / "sub" / "two").write_text("2")
    Path(sys.argv[2]).write_text("building")
    time.sleep(float(sys.argv[3]))

build_once(Path(sys.argv[1]), build, what="a test folder", size=0)
"""


def _start(folder: Path, flag: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(folder), str(flag), str(seconds)],
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def _build(draft: Path) -> None:
    (draft / "one").write_text("1" * 1000)


def _get(folder: Path) -> Path:
    return build_once(folder, _build, what="a test folder", size=0)


def test_a_built_folder_is_not_built_again(tmp_path: Path) -> None:
    calls = []

    def build(draft: Path) -> None:
        calls.append(draft)
        _build(draft)

    for _ in range(2):
        build_once(tmp_path / "deep" / "made", build, what="a test folder", size=0)
    assert len(calls) == 1


@pytest.mark.parametrize("harm", ["size", "bytes", "missing", "manifest", "empty manifest"])
def test_a_damaged_folder_is_told_and_built_again(
    harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _get(tmp_path / "made")
    if harm == "size":
        (folder / "one").write_text("1" * 999)
    elif harm == "bytes":
        (folder / "one").write_text("1" * 999 + "2")
    elif harm == "missing":
        (folder / "one").unlink()
    else:
        (folder / "manifest.json").write_text("{" if harm == "manifest" else "[]")
    assert damage(folder) is not None
    _get(folder)
    assert damage(folder) is None
    assert (folder / "one").read_text() == "1" * 1000
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "damaged" in told[0]
    assert str(folder) in told[0]


def test_a_build_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def build(draft: Path) -> None:
        _build(draft)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "made", build, what="a test folder", size=0)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_a_killed_build_leaves_nothing_that_counts_and_the_next_one_clears_up(
    tmp_path: Path,
) -> None:
    folder, flag = tmp_path / "cache" / "made", tmp_path / "flag"
    process = _start(folder, flag, 60)
    _wait_for(flag)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not folder.exists()
    _get(folder)
    assert damage(folder) is None
    assert sorted(p.name for p in folder.parent.iterdir()) == [".made.lock", "made"]


def test_two_processes_do_not_build_at_once(tmp_path: Path) -> None:
    folder, flag = tmp_path / "cache" / "made", tmp_path / "flag"
    first = _start(folder, flag, 2)
    _wait_for(flag)
    second_flag = tmp_path / "second"
    second = _start(folder, second_flag, 0)
    _, told = second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert not second_flag.exists()
    assert "waiting" in told


def test_an_unwritable_cache_is_one_sentence_that_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(IclError, match=r"file.*ICL_CACHE"):
        _get(tmp_path / "file" / "made")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def build(draft: Path) -> None:
        _build(draft)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(IclError, match=r"No space left on device.*ICL_CACHE"):
        build_once(tmp_path / "made", build, what="a test folder", size=0)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_too_little_space_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"needs 1000000\.0 GB"):
        build_once(tmp_path / "made", _build, what="a test folder", size=10**15)


def test_the_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("ICL_CACHE", raising=False)
    assert cache_dir() == Path("/somewhere/icl")
    monkeypatch.setenv("ICL_CACHE", "/else/where")
    assert cache_dir() == Path("/else/where")

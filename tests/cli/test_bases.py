"""`icl run` on bases that are quantised or laid over devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.cli.test_meta import TEXT
from tests.place import run_icl, write_all


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_all(tmp_path, TEXT)


def results(run: Path) -> dict[tuple[object, ...], object]:
    lines = (run / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {(r["learner"], r["fingerprint"]): r["log_probs"] for r in records}


def test_a_device_map_changes_where_and_not_what(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_icl(monkeypatch, "run", config, "--out", tmp_path / "a") == 0
    spread = ("--set", "model.device_map=auto", "--out", tmp_path / "b")
    assert run_icl(monkeypatch, "run", config, *spread) == 0
    assert results(tmp_path / "a") == results(tmp_path / "b") != {}


def test_a_quantised_base_is_meta_trained_and_judged(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    tiny.save(tmp_path / "model", "llama-wide")
    assert run_icl(monkeypatch, "run", config, "--out", tmp_path / "a") == 0
    small = ("--set", "model.quantise=4bit", "--out", tmp_path / "b")
    assert run_icl(monkeypatch, "run", config, *small) == 0
    full, quantised = results(tmp_path / "a"), results(tmp_path / "b")
    assert full.keys() == quantised.keys() != set()
    assert full != quantised

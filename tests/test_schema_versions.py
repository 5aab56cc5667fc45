"""What earlier versions have written still reads and means the same; what newer ones wrote is told.

`tests/golden` holds an experiment and a run's folder as icl 0.1 wrote them. They are never made
anew: where a schema changes, the old file stays, and what reads it becomes a migration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import icl
from icl.errors import IclError, NewerSchemaError
from icl.experiments.config import load_config
from icl.runs.store import RecordStore

GOLDEN = Path(__file__).parent / "golden" / "run"
EXPECTED = {"fomaml": 33.3, "lora": 33.3, "majority": 33.3, "in-context": 16.7}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN, tmp_path / "run")


def kept(old: Any, new: Any) -> bool:
    """Tell whether all that stands in the old value stands in the new one."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in new and kept(v, new[k]) for k, v in old.items())
    return bool(old == new)


def test_an_experiment_of_the_first_schema_means_what_it_meant(run: Path) -> None:
    config = load_config(run / "config.yaml")
    assert kept(yaml.safe_load((run / "config.yaml").read_text("utf-8")), config.resolved())


def test_a_run_of_the_first_schema_gives_the_figures_that_it_gave(run: Path) -> None:
    frame = icl.open_run(run).frame().set_index("learner")
    found = {name: round(100 * value, 1) for name, value in frame["accuracy"].items()}
    assert found == EXPECTED
    assert len(icl.open_run(run).queries()) == 24
    assert len(list(RecordStore(run).scan())) == 8


def _newer_records(run: Path) -> None:
    file = run / "records.jsonl"
    lines = file.read_text("utf-8").splitlines()
    lines[-1] = json.dumps({**json.loads(lines[-1]), "schema_version": 99})
    file.write_text("\n".join(lines) + "\n", "utf-8")


def _newer_roster(run: Path) -> None:
    file = run / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "schema_version": 99}))


@pytest.mark.parametrize("change", [_newer_records, _newer_roster])
def test_a_run_of_a_newer_icl_is_told_and_left_as_it_is(
    run: Path, change: Callable[[Path], None]
) -> None:
    change(run)
    before = (run / "records.jsonl").read_bytes()
    with pytest.raises(NewerSchemaError, match=r"schema version 99.*: update icl\.$"):
        icl.open_run(run)
    assert (run / "records.jsonl").read_bytes() == before


def test_the_tail_that_a_newer_icl_is_writing_is_not_cut_off(run: Path) -> None:
    _newer_records(run)
    file = run / "records.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    before = file.read_bytes()
    record = next(iter(RecordStore(GOLDEN).scan()))
    with pytest.raises(NewerSchemaError):
        RecordStore(run).append(record)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("2", "version 2 is a newer icl's, and this one reads 1; update icl."),
        ("0", "there is no version 0; write 1, and see whether the fields still fit."),
        ("new", "there is no version 'new'; write 1, and see whether the fields still fit."),
    ],
)
def test_an_experiment_of_another_version_is_told_in_one_sentence(
    run: Path, version: str, told: str
) -> None:
    path = run / "config.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("schema_version: 1", f"schema_version: {version}"), "utf-8")
    with pytest.raises(IclError) as error:
        load_config(path)
    assert str(error.value).endswith(f"config.yaml, line 1, field 'schema_version': {told}")

"""What docs/statistics.md and docs/metrics.md show runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import icl
from icl.evaluation.frame import query_frame
from tests.evaluation.synthetic import run_records

DOCS = Path(icl.__file__).parent.parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)


def test_the_statistics_of_a_table(tmp_path, monkeypatch):
    learners = {"zero-shot": (0.4, 0, 1.0), "b": (0.5, 0, 1.0), "c": (0.6, 0, 1), "d": (0.7, 0, 1)}
    table = query_frame(run_records(learners=learners, languages=("de", "sw"), shots=(1,)))
    table["task"] = table["episode"].map(lambda name: f"task {int(name, 16) % 2}")
    table["seed"] = table["learner"].isin(["b", "d"]).astype(int)
    table["order"] = table["learner"].isin(["c", "d"]).astype(int)
    monkeypatch.chdir(tmp_path)
    table.to_parquet("queries.parquet")
    found: dict[str, object] = {}
    exec(blocks("statistics.md")[0], found)
    assert set(found["order"].learner[:2]) == {"c", "d"}
    assert found["tests"].critical_difference > 0


def test_the_metrics(tmp_path, monkeypatch):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    names = {
        "log_probs": np.log([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]]).tolist(),
        "columns": [0, 1, 0],
        "languages": ["de", "de", "sw"],
    }
    (block,) = blocks("metrics.md")
    exec(block, names)
    named = set(re.findall(r"^\| `?([a-z0-9_`, ]+)`? \|", (DOCS / "metrics.md").read_text(), re.M))
    documented = {name.strip("` ") for cell in named for name in cell.split(",")} - {"name"}
    assert documented == set(icl.metrics.names())

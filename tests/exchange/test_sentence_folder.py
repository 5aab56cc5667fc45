"""What is trained on an encoder is loaded by sentence-transformers and PEFT, without icl."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from icl.runs.folder import RunFolder
from icl.runs.roster import read_roster
from tests import tiny_encoders
from tests.place import Place, run_icl, write_data, write_experiment

pytest.importorskip("sentence_transformers", reason="the extra `setfit` is not installed")

TRAINING = "training: {steps: 3, meta_batch: 2, shots: 2, queries: 3, learning_rate: 0.02}"
EXPERIMENT = f"""\
schema_version: 1
name: tiny
model: {{name: MODEL}}
tasks: {{family: FAMILY, data: DATA}}
episodes:
  ways: 3
  shots: [1, 2]
  queries: 3
  count: 3
  settings:
    - name: within
    - name: cross-lingual
      support_language: aa
learners:
  majority: {{method: majority}}
  nearest: {{method: meta-prototypes, projection_rank: 4, {TRAINING}}}
  cosine: {{method: meta-prototypes, metric: cosine, normalise: false, {TRAINING}}}
  attention: {{method: meta-matching, instruction: "say: ", pooling: cls, {TRAINING}}}
  relation: {{method: relation, tune: nothing, {TRAINING}}}
  plain: {{method: relation, interactions: false, pooling: max, {TRAINING}}}
  multitask: {{method: multitask, pooling: mean-sqrt, {TRAINING}}}
  nearest-lora: {{method: meta-prototypes, tune: lora, {TRAINING}}}
  snail: {{method: snail, {TRAINING}}}
  middle: {{method: meta-prototypes, layer: 1, {TRAINING}}}
  fomaml: {{method: fomaml, inner_rate: 0.5, {TRAINING}}}
  maml++: {{method: maml++, inner_rate: 0.5, adapt_steps: 4, {TRAINING}}}
  meta-sgd: {{method: meta-sgd, inner_rate: 0.5, inner_steps: 2, {TRAINING}}}
  imaml: {{method: imaml, inner_rate: 0.2, strength: 1.0, {TRAINING}}}
  protomaml: {{method: protomaml, inner_optimiser: adam, variant: rslora, {TRAINING}}}
  anil: {{method: anil, inner_optimiser: momentum, top_layers: 1, {TRAINING}}}
"""
HEADS = ("nearest", "cosine", "attention", "relation", "plain", "multitask", "nearest-lora")
STARTS = ("fomaml", "maml++", "meta-sgd", "imaml", "protomaml", "anil")
# What a user does, in a process where icl cannot be imported.
ALONE = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "icl":
            raise ImportError("icl is not here")
sys.meta_path.insert(0, Block())
sys.path.insert(0, ".")
rows = []
if sys.argv[2] == "head":
    from head import Head
    from sentence_transformers import SentenceTransformer
    model, head = SentenceTransformer(".", device="cpu"), Head(".")
    def task(texts, labels):
        fitted = head.fit(model.encode(texts), labels)
        return fitted.labels, lambda texts: fitted.log_probs(model.encode(texts))
else:
    from adapt import Start
    start = Start(".", *sys.argv[3:])
    def task(texts, labels):
        learnt = start.adapt(texts, labels)
        return learnt.labels, learnt.log_probs
for line in open(sys.argv[1], encoding="utf-8"):
    episode = json.loads(line)
    names, log_probs = task(
        [e["fields"]["text"] for e in episode["support"]], [e["label"] for e in episode["support"]]
    )
    found = log_probs([e["fields"]["text"] for e in episode["query"]])
    rows.append([names, found.tolist()])
assert not [name for name in sys.modules if name.split(".")[0] == "icl"]
print(json.dumps(rows))
"""


def alone(code: str, *arguments: object, folder: Path) -> str:
    """Run code in a process that has no icl: neither on its path nor to be imported."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all of them on a tiny encoder."""
    folder = tmp_path_factory.mktemp("sentence")
    tiny_encoders.save(folder / "model")
    write_data(folder / "data")
    path = write_experiment(folder, EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        assert run_icl(patch, "run", path, "--out", folder / "run") == 0
    return folder / "run"


@pytest.fixture
def export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def exported(learner: str, *options: object) -> Path:
        out = tmp_path / "out"
        assert run_icl(monkeypatch, "export", run, learner, out, *options) == 0
        return out

    return exported


def held(run: Path, learner: str, rows: Any) -> None:
    """Hold what a plain process answers against the records of the run."""
    folder = RunFolder(run)
    keys = {row["name"]: row["key"] for row in read_roster(folder) if row["name"] == learner}
    records = folder.records(keys, list(folder.episodes().fingerprints()))
    assert len(records) == len(rows) == 12
    answers = set()
    for record, (names, log_probs) in zip(records, rows, strict=True):
        columns = [names.index(name) for name in record.labels]
        theirs = torch.tensor(log_probs)[:, columns]
        ours = torch.tensor(record.log_probs)
        torch.testing.assert_close(theirs, ours, atol=2e-3, rtol=2e-4)
        assert theirs.argmax(1).tolist() == list(record.predictions)
        answers |= set(record.predictions)
    assert len(answers) == 3


@pytest.mark.parametrize("learner", HEADS)
def test_a_head_answers_as_the_run_did_in_a_process_without_icl(
    run: Path, export: Any, learner: str
) -> None:
    out = export(learner)
    held(run, learner, json.loads(alone(ALONE, run / "episodes.jsonl", "head", folder=out)))


@pytest.mark.parametrize("learner", STARTS)
def test_a_start_adapts_as_the_run_did_in_a_process_without_icl(
    run: Path, export: Any, learner: str
) -> None:
    out = export(learner)
    arguments = (run / "episodes.jsonl", "start")
    held(run, learner, json.loads(alone(ALONE, *arguments, folder=out)))

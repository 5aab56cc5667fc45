"""A dry run's tokens are those that the run then counts."""

from __future__ import annotations

# fixtures of another file
import json

import pytest

from icl.experiments.config import load_config
from icl.experiments.experiment import run_experiment
from icl.experiments.forecast import forecast
from icl.reporting.comparison import Comparison
from icl.runs.store import RecordStore
from tests.place import EXPERIMENT, Place

SECOND = "    - name: cross-lingual\n      support_language: aa\n"
LEARNERS = EXPERIMENT[EXPERIMENT.index("  majority:") :]
# learner -> its parameters, and how far the estimate may be off, as a factor
ASKED: dict[str, tuple[str, float]] = {
    "majority": ("method: majority", 1.0),
    "zero-shot": ("method: zero-shot", 1.0),
    "calibrated": ("method: zero-shot, calibration: contextual", 1.01),
    "in-context": ("method: in-context", 1.1),
    "channel": ("method: in-context, scoring: channel", 1.1),
    "domain": ("method: in-context, calibration: domain", 1.1),
    "orders": ("method: in-context, ensemble_orders: 3", 1.1),
    "knn": ("method: in-context, choice: knn, demonstrations: 2", 1.6),
    "prototypes": ("method: prototypes, layer: 1", 1.3),
    "lora": ("method: lora, steps: 3", 1.01),
    "top": ("method: lora, steps: 3, top_layers: 1", 1.6),
    "fomaml": ("method: fomaml, training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}", 1.3),
    "multitask-lora": (
        "method: multitask-lora, training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}",
        1.3,
    ),
    "maml": ("method: maml, training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}", 1.3),
    "imaml": ("method: imaml, training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}", 1.3),
    "metaicl": ("method: metaicl, training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}", 1.2),
}


def test_the_tokens_of_a_plan_are_those_that_the_run_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_EMBEDDINGS", "off")  # what other tests have embedded is not at hand
    learners = "".join(f"  {name}: {{{said}}}\n" for name, (said, _) in ASKED.items())
    path = place.write(LEARNERS, learners)
    text = path.read_text("utf-8").replace("count: 3", "count: 1")
    path.write_text(text.replace(SECOND, ""), "utf-8")
    plan = forecast(load_config(path), place.folder / "run")
    run = place.folder / "run"
    nothing = Comparison(())  # the report would take most of the time
    monkeypatch.setattr("icl.experiments.experiment.write_outcome", lambda *_, **__: nothing)
    run_experiment(load_config(path), run, command="")
    found = dict.fromkeys(ASKED, 0)
    for record in RecordStore(run).scan():
        found[record.learner] += record.cost.computed_tokens
    for row in json.loads((run / "run.json").read_text("utf-8"))["learners"]:
        found[row["name"]] += (row["training"] or {}).get("computed_tokens", 0)
    for line in plan.lines:
        true, off = found[line.learner], ASKED[line.learner][1]
        assert line.tokens is not None
        assert true / off - 4 <= line.tokens <= true * off + 4, (line.learner, line.tokens, true)


def test_a_text_that_training_meets_again_is_not_embedded_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 steps of 4 episodes, 1,080 texts, from 48 that there are."""
    monkeypatch.setenv("ICL_CACHE", str(place.folder / "cache"))
    training = "{steps: 30, meta_batch: 4, shots: 2, queries: 3}"
    path = place.write(LEARNERS, f"  metric: {{method: meta-prototypes, training: {training}}}\n")
    text = path.read_text("utf-8").replace("count: 3", "count: 1")
    path.write_text(text.replace(SECOND, ""), "utf-8")
    (line,) = forecast(load_config(path), place.folder / "run").lines
    run_experiment(load_config(path), place.folder / "run", command="")
    (row,) = json.loads((place.folder / "run" / "run.json").read_text("utf-8"))["learners"]
    found = row["training"]["computed_tokens"]
    found += sum(r.cost.computed_tokens for r in RecordStore(place.folder / "run").scan())
    assert line.tokens is not None
    assert found / 1.3 <= line.tokens <= found * 1.3


def test_what_cannot_be_counted_stays_open(place: Place) -> None:
    own = """from icl.learners import Learner, Params

class Mine(Learner):
    method = "mine"
    Params = Params
    def __init__(self, backbone, params): ...
    def adapt(self, support, labels): ...
"""
    (place.folder / "mine.py").write_text(own, "utf-8")
    path = place.write(LEARNERS, f"  mine: {{method: '{place.folder / 'mine.py'}:Mine'}}\n")
    (line,) = forecast(load_config(path), place.folder / "run").lines
    assert (line.tokens, line.seconds) == (None, None)
    code, said, _ = place.icl("run", path, "--dry-run")
    assert code == 0
    assert "what is open" in said


def test_a_method_of_ones_own_says_its_work(place: Place) -> None:
    own = """from icl.learners import MetaLearner
from icl.tools.amounts import forward, trained

class Mine(MetaLearner):
    method = "mine"
    def __init__(self, backbone, params): ...
    def adapt(self, support, labels): ...
    def meta_loss(self, episodes): ...
    def trainable_parameters(self): ...
    @classmethod
    def work(cls, counter, episode, params):
        return forward(counter.texts([e.text for e in episode.query[:1]]) * 0 + 10)
    @classmethod
    def training_work(cls, counter, episodes, params):
        return trained(2) * len(episodes)
"""
    (place.folder / "mine.py").write_text(own, "utf-8")
    training = "{steps: 50, shots: 2, queries: 3}"
    said = f"method: '{place.folder / 'mine.py'}:Mine', training: {training}"
    path = place.write(LEARNERS, f"  mine: {{{said}}}\n")
    (line,) = forecast(load_config(path), place.folder / "run").lines
    assert line.tokens == 10 * line.episodes + 2 * 50 * 4

"""The metrics as modules of `evaluate`: from the package's own files, offline, combined."""

from __future__ import annotations

import math
import socket

import evaluate
import numpy as np
import pytest

import icl.metrics
from icl.errors import IclError
from icl.metrics import labels, probabilities
from icl.metrics import reliability as calibration

GENERATION = {"exact_match", "token_f1", "chrf", "bleu", "rouge"}
GOLD = [0, 1, 1, 0, 2, 2]
ROWS = [
    [math.log(x) for x in row]
    for row in (
        (0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (0.1, 0.8, 0.1),
        (0.2, 0.6, 0.2), (0.1, 0.1, 0.8), (0.3, 0.3, 0.4),
    )
]  # fmt: skip
COLUMNS = {
    "languages": ["de", "de", "sw", "sw", "sw", "de"],
    "support_languages": ["de", "sw", "sw", "de", "de", "de"],
    "episodes": ["e1", "e1", "e2", "e2", "e3", "e3"],
    "shots": [0, 0, 1, 1, 4, 4],
}


@pytest.fixture(autouse=True)
def _no_network_and_an_own_cache(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a metric asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)


@pytest.mark.parametrize("name", icl.metrics.names())
def test_every_metric_loads_from_its_file_and_says_what_it_takes(name):
    if name in {"chrf", "bleu", "rouge"}:
        pytest.importorskip("rouge_score")
        pytest.importorskip("sacrebleu")
    module = evaluate.load(icl.metrics.path(name))
    assert module.description and "Inputs of this metric" in module.inputs_description
    if name in GENERATION:
        found = module.compute(predictions=["a cat", "b"], references=["a cat", "c"])
        main = "rougeL" if name == "rouge" else name
        assert found[main] == pytest.approx(0.5)
    elif name == "auroc":
        found = module.compute(predictions=[0.9, 0.1, 0.5], references=[1, 0, 1])
        assert found == {"auroc": 1.0}
    else:
        columns = {c: COLUMNS[c] for c in type(module).columns}
        found = module.compute(predictions=ROWS, references=GOLD, **columns)
    assert all(np.isfinite(v) for v in found.values() if isinstance(v, float))


def test_all_classification_metrics_combine_and_equal_the_functions():
    wanted = (
        "accuracy", "balanced_accuracy", "macro_f1", "mcc", "nll", "brier", "ece",
        "worst_language", "worst_episode", "cross_lingual_gap", "shots_area", "shots_gain",
    )  # fmt: skip
    found = icl.metrics.load(*wanted).compute(predictions=ROWS, references=GOLD, bins=5, **COLUMNS)
    hard = probabilities.predicted(ROWS)
    assert hard == [0, 0, 1, 1, 2, 2]
    assert found["accuracy"] == labels.accuracy(hard, GOLD) == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == labels.balanced_accuracy(hard, GOLD)
    assert found["macro_f1"] == labels.macro_f1(hard, GOLD)
    assert found["mcc"] == labels.mcc(hard, GOLD)
    assert found["nll"] == probabilities.nll(ROWS, GOLD)
    assert found["brier"] == probabilities.brier(ROWS, GOLD)
    assert found["ece"] == calibration.ece(calibration.reliability_of(ROWS, GOLD, 5))
    assert len(found["reliability"]) == 5
    assert (found["worst_language"], found["worst_episode"]) == ("de", "e1")
    assert found["worst_language_accuracy"] == pytest.approx(2 / 3)
    assert found["worst_episode_accuracy"] == 0.5
    assert found["cross_lingual_gap"] == pytest.approx((1.0 - 0.0 + 1.0 - 0.5) / 2)
    assert found["accuracy_by_shots"] == {0: 0.5, 1: 0.5, 4: 1.0}
    assert found["shots_gain"] == {1: 0.0, 4: 0.125}


def test_names_columns_and_batches_give_the_same():
    by_name = icl.metrics.load("macro_f1", "mcc")
    names = "abc"
    hard = probabilities.predicted(ROWS)
    expected = by_name.compute(predictions=hard, references=GOLD)
    assert expected == by_name.compute(
        predictions=[names[c] for c in hard], references=[names[c] for c in GOLD]
    )
    for half in (slice(0, 3), slice(3, 6)):
        by_name.add_batch(predictions=ROWS[half], references=GOLD[half])
    assert by_name.compute() == expected


def test_episodes_may_differ_in_their_number_of_labels():
    ragged = [[math.log(0.5)] * 2, [math.log(0.25)] * 4]
    found = icl.metrics.load("nll", "accuracy").compute(predictions=ragged, references=[1, 0])
    assert found["nll"] == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_generation_metrics_combine():
    pytest.importorskip("sacrebleu")
    found = icl.metrics.load("exact_match", "token_f1", "chrf", "bleu").compute(
        predictions=["a red cat", "dog"], references=["a red cat", "a dog"]
    )
    assert found["exact_match"] == 0.5
    assert found["token_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert 0.5 < found["chrf"] < 1 and 0.5 < found["bleu"] < 1
    assert {"corpus_chrf", "corpus_bleu"} <= found.keys()


def test_unknown_metrics_and_inputs_are_told():
    with pytest.raises(IclError, match="Did you mean 'macro_f1'"):
        icl.metrics.load("macro-f1")
    with pytest.raises(IclError, match="Name a metric"):
        icl.metrics.load()
    with pytest.raises(ValueError, match="unknown input 'bin'"):
        icl.metrics.load("ece").compute(predictions=ROWS, references=GOLD, bin=5)

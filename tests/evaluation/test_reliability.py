"""Calibration of records, against the metrics' own functions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from icl.evaluation.reliability import calibration
from icl.evaluation.summary import summarise
from icl.metrics import probabilities
from icl.metrics import reliability as metric
from tests.evaluation.synthetic import record, run_records, written


def draw(seed: int, queries: int = 30, ways: int = 3):
    """A record whose gold labels follow the probabilities: calibrated by construction."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(ways), queries)
    gold = [int(rng.choice(ways, p=row)) for row in shares]
    ids = tuple(f"{seed}.{n}" for n in range(queries))
    return replace(
        record(seed),
        ways=ways,
        labels=tuple("abc"[:ways]),
        query_ids=ids,
        parallel_ids=ids,
        log_probs=tuple(tuple(map(math.log, row)) for row in shares),
        predictions=tuple(int(row.argmax()) for row in shares),
        gold=tuple(gold),
    )


def test_figures_are_those_of_the_metrics_over_all_queries():
    records = [draw(seed) for seed in range(5)]
    rows = [row for r in records for row in r.log_probs]
    gold = [g for r in records for g in r.gold]
    found = calibration(records)
    assert found.nll == pytest.approx(probabilities.nll(rows, gold))
    assert found.brier == pytest.approx(probabilities.brier(rows, gold))
    bins = metric.reliability_of(rows, gold, 10)
    assert found.ece == pytest.approx(metric.ece(bins))
    assert [b.count for b in found.bins] == [b.count for b in bins]


def test_who_says_what_comes_true_has_little_error_and_who_is_too_sure_has_much():
    honest = calibration([draw(seed, queries=200) for seed in range(20)])
    assert honest.ece < 0.03

    def sharpen(made):
        rows = [[3 * x for x in row] for row in made.log_probs]
        totals = [math.log(sum(map(math.exp, row))) for row in rows]
        shifted = [tuple(x - t for x in row) for row, t in zip(rows, totals, strict=True)]
        return replace(made, log_probs=tuple(shifted))

    sure = calibration([sharpen(draw(seed, queries=200)) for seed in range(20)])
    assert sure.ece > 0.15 and sure.nll > honest.nll and sure.brier > honest.brier


def test_a_run_has_a_calibration_for_each_learner_but_none_for_written_answers():
    assert set(summarise(run_records()).calibration) == {
        "majority", "zero-shot", "in-context", "prototypes", "linear-probe", "lora", "fomaml",
    }  # fmt: skip
    answers = [written(["a"], ["b"], {"chrf": [0.5]}, i) for i in range(3)]
    assert summarise(answers).calibration == {}
    with pytest.raises(ValueError, match="no record"):
        calibration(answers)


def test_a_right_label_ruled_out_is_infinitely_unlikely():
    made = replace(record(), log_probs=((0.0, -math.inf), (0.0, -math.inf)))
    assert calibration([made]).nll == math.inf

"""The worst episodes, the transfer matrix, and all pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icl.evaluation import analysis
from icl.evaluation.frame import query_frame
from icl.evaluation.grid import grid
from icl.evaluation.paired import permutations
from icl.evaluation.pairs import pairs
from icl.evaluation.transfer import transfer
from icl.evaluation.worst import worst_episodes
from tests.evaluation.synthetic import run_records, written

THREE = {"a": (0.4, 0.0, 1.0), "b": (0.6, 0.1, 1.0), "c": (0.6, 0.1, 1.0)}


@pytest.fixture(scope="module")
def records():
    return list(run_records(learners=THREE, languages=("de", "sw", "th")))


def test_the_worst_episodes_are_those_with_the_lowest_accuracy_and_a_query_that_is_wrong(records):
    found = worst_episodes(grid(records), "accuracy", "b", 4)
    mine = {r.fingerprint: r.accuracy for r in records if r.learner == "b"}
    assert [e.scores["b"] for e in found] == sorted(mine.values())[:4]
    for episode in found:
        own = episode.records["b"]
        assert own.learner == "b" and mine[own.fingerprint] == episode.scores["b"]
        assert own.predictions[episode.query] != own.gold[episode.query]
        right = zip(own.predictions[: episode.query], own.gold[: episode.query], strict=True)
        assert all(p == g for p, g in right)


def test_episodes_without_a_mistake_are_not_among_the_worst(records):
    perfect = [replace(r, predictions=r.gold) for r in records]
    assert worst_episodes(grid(perfect), "accuracy", "b") == ()


def test_of_written_answers_the_worst_query_is_the_one_with_the_lowest_score():
    answers = [written(["x", "y"], ["x", "z"], {"chrf": [0.9, 0.2]}), ]  # fmt: skip
    (found,) = worst_episodes(grid(answers), "chrf", "in-context")
    assert found.query == 1 and found.scores["in-context"] == pytest.approx(0.55)


def test_a_cell_of_the_transfer_matrix_is_the_mean_of_its_episodes(records):
    found = transfer(grid(records), "accuracy")
    assert found is not None
    assert found.supports == ("de", "en", "sw", "th") and found.queries == ("de", "sw", "th")
    assert set(found.counts) == {(s, q) for q in found.queries for s in ("en", q)}
    for (support, query), accuracy in found.accuracy["a"].items():
        own = [r for r in records if r.learner == "a"]
        own = [r for r in own if (r.support_language, r.query_language) == (support, query)]
        assert accuracy == pytest.approx(np.mean([r.accuracy for r in own]))
        assert found.counts[support, query] == sum(len(r.gold) for r in own)


def test_there_is_no_transfer_matrix_within_languages_nor_of_changed_labels(records):
    within = [r for r in records if r.setting == "within"]
    assert transfer(grid(within), "accuracy") is None
    changed = [
        replace(r, setting=f"{r.setting}+flipped-labels") if r.setting != "within" else r
        for r in records
    ]
    assert transfer(grid(changed), "accuracy") is None


def test_pairs_of_records_are_those_of_their_table(records):
    whole = grid(records)
    found = pairs(whole.learners, whole.scores("accuracy"))
    table = analysis.compare(query_frame(records))
    assert [(p.first, p.second) for p in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair, (_, row) in zip(found, table.iterrows(), strict=True):
        for name in ("difference", "low", "high", "p", "p_holm", "p_mcnemar", "d_z", "h"):
            assert getattr(pair, name) == pytest.approx(row[name])


def test_bootstrap_intervals_hold_the_difference_and_miss_nought_where_it_is_large(records):
    whole = grid(records)
    first, _, equal = pairs(whole.learners, whole.scores("accuracy"))
    assert first.low_bootstrap < first.difference < first.high_bootstrap < 0
    assert equal.low_bootstrap < equal.difference < equal.high_bootstrap
    # on episodes alone they are about as wide as the clustered interval, never far narrower
    width = first.high_bootstrap - first.low_bootstrap
    assert 0.5 < width / (first.high - first.low) < 1.5


@pytest.mark.parametrize("clusters", [5, 30])
def test_permutations_of_many_rows_are_those_of_each(clusters):
    rows = np.random.default_rng(0).normal(0.2, 1, (4, clusters))
    together = permutations(rows, draws=500)
    assert together.tolist() == [permutations([row], draws=500)[0] for row in rows]

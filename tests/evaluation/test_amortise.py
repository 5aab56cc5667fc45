"""From how many tasks on meta-training pays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from icl.evaluation.amortise import break_even
from icl.evaluation.board import MetaTraining
from icl.evaluation.summary import summarise
from tests.evaluation.synthetic import run_records

ROW = summarise(run_records(learners={"meta": (0.6, 0, 1.0)}, shots=(1,))).overall.rows[0]


@settings(deadline=None)
@given(st.floats(1, 1e5), st.floats(0.01, 10), st.floats(0.01, 10), st.integers(0, 10**9))
def test_from_there_on_all_tasks_together_cost_less_and_before_they_cost_more(
    once, each, d, tokens
):
    mine = replace(ROW, seconds=each, computed_tokens=100)
    other = replace(ROW, learner="other", seconds=d, computed_tokens=300)
    found = break_even([mine, other], {"meta": MetaTraining(once, tokens, 1)})
    (row,) = found
    assert row.tasks_by_tokens is not None
    n = row.tasks_by_tokens
    assert tokens + 100 * n <= 300 * n and (n == 0 or tokens + 100 * (n - 1) > 300 * (n - 1))
    if d <= each:
        assert row.tasks_by_seconds is None
    else:
        n = row.tasks_by_seconds
        assert n is not None
        assert once + each * n <= d * n * (1 + 1e-6)
        assert once + each * (n - 1) > d * (n - 1) * (1 - 1e-6)


def test_more_accurate_cheaper_and_meta_trained_others_are_left_out():
    mine = replace(ROW, seconds=1.0)
    spent = MetaTraining(10.0, 0, 1)
    better = replace(ROW, learner="better", accuracy=0.99, seconds=9.0)
    cheaper = replace(ROW, learner="cheaper", accuracy=0.1, seconds=0.1, computed_tokens=0)
    also = replace(ROW, learner="also", seconds=9.0)
    assert break_even([mine, better, cheaper, also], {"meta": spent, "also": spent}) == ()
    assert break_even([mine, better, cheaper, also], {}) == ()

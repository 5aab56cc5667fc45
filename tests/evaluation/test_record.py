from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.evaluation.record import Cost, EpisodeRecord
from tests.evaluation.synthetic import record

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, TEXT, st.floats(max_value=0, allow_nan=False), st.floats(0, 1e9))
def test_a_record_survives_json_whatever_its_texts_and_figures(task, learner, log_prob, seconds):
    made = replace(
        record(text=task),
        learner=learner,
        log_probs=((log_prob, -math.inf), (0.0, -0.5)),
        cost=Cost(1, 2, seconds, 3.5, 4),
    )
    line = made.to_json()
    assert "\n" not in line
    assert EpisodeRecord.from_json(line) == made


def test_the_line_is_strict_json_even_with_labels_ruled_out():
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads(record().to_json(), parse_constant=refuse)
    assert line["log_probs"][0] == [0.0, None]


@pytest.mark.parametrize(
    "change",
    [
        {"predictions": (0,)},
        {"predictions": (0, 2)},
        {"gold": (-1, 0)},
        {"query_ids": ("q1",)},
        {"labels": ("a",)},
        {"log_probs": ((0.0, -1.0), (0.0,))},
        {"log_probs": ((0.0, -1.0), (0.0, math.nan))},
        {"log_probs": ((0.0, -1.0), (0.7, -1.0))},
        {"gold": (), "predictions": (), "query_ids": (), "parallel_ids": (), "log_probs": ()},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change):
    with pytest.raises(ValueError):
        replace(record(), **change)


@pytest.mark.parametrize("line", ["5", "{}", "null", '{"schema_version": 1}', "{", '{"a": NaN}'])
def test_other_json_is_refused_with_a_value_error(line):
    with pytest.raises(ValueError):
        EpisodeRecord.from_json(line)


def test_another_schema_version_is_refused():
    line = record().to_json().replace('"schema_version":1', '"schema_version":2')
    with pytest.raises(ValueError, match="schema"):
        EpisodeRecord.from_json(line)


def test_accuracy_is_the_share_of_right_queries():
    assert record().accuracy == 0.5


def test_outcome_forgets_cost_and_nothing_else():
    other = replace(record(), cost=Cost(9, 9, 9.0, 9.0, 9))
    assert other.outcome() == record().outcome()
    assert replace(record(), predictions=(1, 0)).outcome() != record().outcome()

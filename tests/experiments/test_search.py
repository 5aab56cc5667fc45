"""Grids and the trials that are drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from icl.errors import IclError
from icl.experiments.learner_config import LearnerConfig
from icl.experiments.search import check_names, check_values, draw_trials
from icl.learners.registry import is_meta_learner, learner_class, methods

ENOUGH = 8  # trials that each method with anything to search has points for


def anything(_: Mapping[str, Any]) -> None:
    """Take all values."""


def even(values: Mapping[str, Any]) -> None:
    """Take those whose sum is even."""
    if sum(values.values()) % 2:
        raise IclError("the sum is odd.")


@pytest.mark.parametrize("method", methods())
def test_each_method_has_what_it_searches_and_takes_each_value_alone(method: str) -> None:
    learner = LearnerConfig(method=method)
    choices, known = learner_class(method).search, learner.values()
    check_names(choices, known)
    for name, values in choices.items():
        for value in values:
            made = learner.with_values({name: value})
            assert made.values()[name] == value
            assert {n: v for n, v in made.values().items() if n != name} == {
                n: v for n, v in known.items() if n != name
            }
    trials = draw_trials(choices, known, learner.with_values, count=ENOUGH, seed=0)
    assert len(trials) == (ENOUGH if choices else 1)
    # what a meta-learner becomes hangs on its outer rate first of all
    assert is_meta_learner(method) == ("training.learning_rate" in choices)


def test_only_guessing_has_nothing_to_search() -> None:
    assert {m for m in methods() if not learner_class(m).search} == {"majority", "stratified"}


def test_the_first_is_as_configured_and_no_point_comes_twice() -> None:
    choices = {"a": (1, 2, 3), "b": (0.5, 5)}
    found = draw_trials(choices, {"a": 2, "b": 5.0, "c": 0}, anything, count=100, seed=4)
    assert found[0] == {"a": 2, "b": 5}
    assert len(found) == 6
    assert {(p["a"], float(p["b"])) for p in found} == {(a, b) for a in (1, 2, 3) for b in (0.5, 5)}


def test_a_configured_value_outside_of_the_grid_is_a_trial_all_the_same() -> None:
    found = draw_trials({"a": (1, 2)}, {"a": 7}, anything, count=100, seed=0)
    assert found[0] == {"a": 7}
    assert sorted(p["a"] for p in found[1:]) == [1, 2]


@pytest.mark.parametrize("count", [1, 3, 5, 11])
def test_more_trials_begin_with_the_fewer(count: int) -> None:
    choices, known = {"a": (1, 2, 3, 4), "b": (1, 2, 3)}, {"a": 1, "b": 1}
    whole = draw_trials(choices, known, anything, count=12, seed=1)
    assert draw_trials(choices, known, anything, count=count, seed=1) == whole[:count]
    turned = {"b": (3, 1, 2), "a": (4, 3, 2, 1)}
    assert draw_trials(turned, known, anything, count=12, seed=1) == whole
    assert draw_trials(choices, known, anything, count=12, seed=2) != whole


def test_combinations_that_are_refused_are_no_points() -> None:
    choices, known = {"a": (0, 1), "b": (0, 1)}, {"a": 0, "b": 0}
    found = draw_trials(choices, known, even, count=9, seed=0)
    assert found == [{"a": 0, "b": 0}, {"a": 1, "b": 1}]
    check_values(choices, even)
    with pytest.raises(IclError, match=r"gives 'a' the value 1: the sum is odd"):
        check_values({"a": (0, 1), "b": (0, 2)}, even)


def test_parameters_that_need_each_other_can_be_searched_together() -> None:
    learner = LearnerConfig(
        method="in-context", search={"choice": ("all", "knn"), "demonstrations": (None, 2)}
    )
    learner.check_search()
    found = draw_trials(learner.choices(), learner.values(), learner.with_values, count=9, seed=0)
    assert found == [
        {"choice": "all", "demonstrations": None}, {"choice": "knn", "demonstrations": 2}
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"a": ()}, {"a": (1, 1.0)}, {"c": (1,)}, {"a": range(100_001)}])
def test_what_is_no_grid_is_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(IclError, match="`search`"):
        check_names(wrong, {"a": 1, "b": 2})

"""The fast search finds exactly the pairs that comparing all finds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.episodes.near import near_pairs, similarity
from icl.errors import IclError

texts = st.lists(st.text("abAB 日本é", max_size=14), max_size=25)


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from([0.2, 0.5, 0.6, 0.75, 0.8, 1.0]))
def test_the_pairs_are_those_of_comparing_all(items: list[str], threshold: float) -> None:
    expected = [
        [i, j]
        for i, j in itertools.combinations(range(len(items)), 2)
        if similarity(items[i], items[j]) >= threshold - 1e-12
    ]
    assert near_pairs(items, threshold).tolist() == expected


def test_a_changed_letter_in_a_sentence_is_found_in_any_script() -> None:
    items = [
        "could you please tell me the balance of my savings account",
        "could you please tell me the balance of my saving account",
        "what is the weather like today",
        "请告诉我今天北京的天气怎么样我想知道会不会下雨谢谢你的帮助",
        "请告诉我今天北京的天气怎么样我想知道会不会下雪谢谢你的帮助",
    ]
    assert near_pairs(items).tolist() == [[0, 1], [3, 4]]


@pytest.mark.parametrize("threshold", [0, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(IclError, match="threshold"):
        near_pairs(["a"], threshold)

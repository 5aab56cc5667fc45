from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from icl.reporting.numbers import count, duration, p_value, points


@given(st.floats(0, 1e7))
def test_a_duration_never_shows_sixty_of_a_unit_and_says_something(seconds):
    text = duration(seconds)
    assert not re.search(r"\b60\xa0(s|min)", text)
    assert not text.startswith("1000")
    assert seconds < 5e-5 or re.search("[1-9]", text)


@given(st.floats(0, 1e17))
def test_a_count_keeps_three_figures(number):
    unit = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.get(count(number)[-1], 1)
    shown = float(count(number).rstrip("kMGTP")) * unit
    assert abs(shown - number) <= max(0.5, 0.00501 * number)


@given(st.floats(-1, 1))
def test_points_of_opposite_differences_mirror_each_other(difference):
    there, back = points(difference), points(-difference)
    assert there.lstrip("+−") == back.lstrip("+−")
    assert there == "0.0" or {there[0], back[0]} == {"+", "−"}


@given(st.floats(0, 0.0009))
def test_a_tiny_p_is_never_shown_as_zero(p):
    assert p_value(p) == "< 0.001"

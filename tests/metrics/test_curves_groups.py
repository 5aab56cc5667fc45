"""Curves over shots, worst groups and gaps, against loops and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc

from icl.metrics import curves, groups

CURVES = st.dictionaries(st.integers(0, 64), st.floats(0, 1), min_size=2, max_size=8)


@settings(deadline=None)
@given(CURVES)
def test_the_area_is_scikit_learns_divided_by_the_width(curve):
    shots = sorted(curve)
    y = [curve[k] for k in shots]
    for scale, x in (("linear", np.array(shots, float)), ("log", np.log2(1 + np.array(shots)))):
        expected = auc(x, y) / (x[-1] - x[0])
        assert curves.area_under_shots(curve, scale) == pytest.approx(expected)


@settings(deadline=None)
@given(st.sets(st.integers(0, 64), min_size=2), st.floats(0, 1))
def test_a_flat_curve_has_its_height_as_area_and_no_gain(shots, height):
    curve = dict.fromkeys(shots, height)
    assert curves.area_under_shots(curve) == pytest.approx(height)
    assert all(gain == 0 for gain in curves.gain_per_example(curve, height).values())


@settings(deadline=None)
@given(CURVES, st.floats(0, 1))
def test_gains_add_up_to_the_whole_gain(curve, zero):
    for n, gain in curves.gain_per_example(curve, zero).items():
        assert zero + n * gain == pytest.approx(curve[n], abs=1e-9)


HITS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["de", "sw"]), st.sampled_from(["de", "sw", "ja"])),
    min_size=1,
)


@settings(deadline=None)
@given(HITS)
def test_the_worst_group_is_the_least_of_all_groups_accuracies(made):
    right, _, languages = map(list, zip(*made, strict=True))
    worst, accuracy = groups.worst(right, languages)
    by_hand = {
        name: np.mean([r for r, language in zip(right, languages, strict=True) if language == name])
        for name in set(languages)
    }
    assert accuracy == pytest.approx(min(by_hand.values()))
    assert by_hand[worst] == pytest.approx(accuracy)


@settings(deadline=None)
@given(HITS)
def test_the_gap_is_the_mean_over_languages_of_within_less_across(made):
    right, support, query = map(list, zip(*made, strict=True))
    gaps = []
    for language in sorted(set(query)):
        within = [r for r, s, q in made if q == language and s == q]
        across = [r for r, s, q in made if q == language and s != q]
        if within and across:
            gaps.append(np.mean(within) - np.mean(across))
    if gaps:
        assert groups.cross_lingual_gap(right, support, query) == pytest.approx(np.mean(gaps))
    else:
        with pytest.raises(ValueError, match="within and across"):
            groups.cross_lingual_gap(right, support, query)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="two numbers of shots"):
        curves.area_under_shots({1: 0.5})
    with pytest.raises(ValueError, match="every query"):
        curves.by_shots([True], [])
    with pytest.raises(ValueError, match="every query"):
        groups.worst([], [])

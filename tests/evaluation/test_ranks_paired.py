"""Ranks, McNemar, permutations, effect sizes and resampling, against scipy and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from icl.evaluation.paired import effect, mcnemar, permutations
from icl.evaluation.ranks import rank
from icl.evaluation.resampling import bootstrap, probability_of_best
from icl.evaluation.statistics import clustered_sample

SCORES = st.integers(3, 6).flatmap(
    lambda methods: st.lists(
        st.lists(st.integers(0, 5), min_size=methods, max_size=methods), min_size=3, max_size=12
    )
)


@settings(deadline=None)
@given(SCORES)
def test_friedman_equals_scipys_with_its_correction_for_equals(blocks):
    scores = np.array(blocks, dtype=float).T
    if all(len(set(block)) == 1 for block in blocks):
        assert rank(scores).friedman == 1
        return
    found = rank(scores)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    assert found.mean == pytest.approx(stats.rankdata(-scores, axis=0).mean(1))
    assert found.mean.sum() == pytest.approx(len(scores) * (len(scores) + 1) / 2)


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_the_critical_difference_is_that_of_demsars_table(methods, q):
    scores = np.random.default_rng(0).random((methods, 14))
    expected = q * np.sqrt(methods * (methods + 1) / (6 * 14))
    assert rank(scores).critical_difference == pytest.approx(expected, rel=4e-4)


def test_pairs_beyond_the_critical_difference_are_those_below_five_percent():
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = rank(rng.random((5, 9)) + np.linspace(0, 0.5, 5)[:, None])
        gaps = np.abs(found.mean[:, None] - found.mean[None, :])
        assert np.array_equal(gaps > found.critical_difference, found.p < 0.05)


def test_two_methods_that_always_rank_alike_are_told_apart_and_equals_are_not():
    always = rank(np.stack([np.arange(9.0), np.arange(9.0) + 1]))
    assert always.mean.tolist() == [2, 1] and always.iman_davenport == 0
    assert rank(np.ones((3, 4))).iman_davenport == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_mcnemar_is_the_exact_binomial_test_summed_by_hand(pairs):
    from math import comb

    b = sum(x and not y for x, y in pairs)
    c = sum(y and not x for x, y in pairs)
    n = b + c
    tail = sum(comb(n, i) for i in range(min(b, c) + 1)) / 2**n
    assert mcnemar(*zip(*pairs, strict=True)) == pytest.approx(min(1.0, 2 * tail))


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_few_clusters_are_permuted_in_every_way(values):
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True)))
            for signs in product((1, -1), repeat=len(values))]  # fmt: skip
    expected = np.mean([s >= abs(sum(values)) for s in sums])
    assert permutations([values])[0] == pytest.approx(expected)


def test_many_clusters_give_scipys_permutation_test_and_never_nought():
    values = np.random.default_rng(3).normal(0.1, 0.5, 60)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0
    ).pvalue
    assert permutations([values], draws=20_000)[0] == pytest.approx(expected, abs=0.012)
    assert permutations([np.ones(200)], draws=99)[0] == 0.01
    assert permutations([values])[0] == permutations([values])[0]


def test_effect_sizes_are_cohens():
    a, b = np.array([0.8, 0.6, 0.7, 0.9]), np.array([0.5, 0.6, 0.8, 0.5])
    found = effect(a, b)
    assert found.d_z == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
    assert found.h == pytest.approx(2 * np.arcsin(np.sqrt(0.75)) - 2 * np.arcsin(np.sqrt(0.6)))
    assert found.superiority == pytest.approx((2 + 0.5) / 4)
    back = effect(b, a)
    assert (back.d_z, back.h, back.superiority) == pytest.approx(
        (-found.d_z, -found.h, 1 - found.superiority)
    )
    assert effect(a, a).d_z == 0 and effect(a + 0.05, a).d_z == np.inf


def test_the_probability_of_being_best_is_that_of_the_normal_difference_of_two():
    rng = np.random.default_rng(0)
    right = (rng.random((2, 400)) < [[0.62], [0.55]]).astype(float)
    sample = clustered_sample(right, np.repeat(np.arange(40), 10).tolist())
    share = probability_of_best(sample, draws=100_000)
    part = sample.covariances()[0]
    sd = np.sqrt(part[0, 0] + part[1, 1] - 2 * part[0, 1])
    assert share.sum() == pytest.approx(1)
    assert share[0] == pytest.approx(stats.norm.cdf((right[0] - right[1]).mean() / sd), abs=0.01)


def test_equal_learners_share_and_nothing_known_is_shared_by_all():
    right = (np.random.default_rng(0).random(60) < 0.6).astype(float)
    sample = clustered_sample([right, right, 0 * right], np.repeat(np.arange(6), 10).tolist())
    assert probability_of_best(sample) == pytest.approx([0.5, 0.5, 0], abs=1e-3)
    assert probability_of_best(clustered_sample([[1], [0]], ["a"])).tolist() == [0.5, 0.5]


def test_the_bootstrap_redraws_whole_clusters():
    values = np.repeat([0.0, 1.0], 50)
    seen = set()

    def mean(rows):
        seen.add(len(rows))
        return float(values[rows].mean())

    whole, low, high = bootstrap(mean, [i // 50 for i in range(100)], draws=200)
    assert (whole, low, high) == (0.5, 0.0, 1.0) and seen == {100}
    independent = bootstrap(mean, list(range(100)), draws=2000)
    expected = stats.norm.interval(0.95, 0.5, 0.05)
    assert independent[1:] == pytest.approx(expected, abs=0.015)
    assert bootstrap(mean, list(range(100)), draws=50) == bootstrap(
        mean, list(range(100)), draws=50
    )


@pytest.mark.parametrize("scores", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, np.nan], [0.0, 1.0]]])
def test_too_little_to_rank_is_refused(scores):
    with pytest.raises(ValueError, match="none missing"):
        rank(np.array(scores))
    with pytest.raises(ValueError, match="each cluster"):
        permutations([[]])[0]
    with pytest.raises(ValueError, match="every query"):
        mcnemar([True], [])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from icl.evaluation.statistics import clustered_sample, holm, holm_pairs

EPISODES, QUERIES = 24, 10  # the size of the quick start


def simulate(rng, learners, items, level, episode_sd, item_sd):
    """Draw right/wrong answers with random effects of episode, item, and each with the learner."""
    ids = np.stack([rng.permutation(items)[:QUERIES] for _ in range(EPISODES)])
    logit = (
        level
        + rng.normal(0, episode_sd, (1, EPISODES, 1))
        + rng.normal(0, episode_sd, (learners, EPISODES, 1))
        + rng.normal(0, item_sd, items)[ids][None]
        + rng.normal(0, item_sd, (learners, items))[:, ids]
    )
    right = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
    episodes = np.repeat(np.arange(EPISODES), QUERIES)
    values = right.reshape(learners, -1).astype(float)
    return clustered_sample(values, episodes.tolist(), ids.ravel().tolist())


def true_accuracy(level, episode_sd, item_sd):
    noise = np.random.default_rng(1).normal(0, np.sqrt(2 * episode_sd**2 + 2 * item_sd**2), 400_000)
    return float(np.mean(1 / (1 + np.exp(-(level + noise)))))


WORLDS = {
    "independent": {"items": 100, "level": 0.5, "episode_sd": 0.0, "item_sd": 0.0},
    "both clusterings": {"items": 100, "level": 0.5, "episode_sd": 0.5, "item_sd": 0.5},
    "episodes only": {"items": 100, "level": 0.5, "episode_sd": 0.7, "item_sd": 0.0},
    "items only": {"items": 40, "level": 0.5, "episode_sd": 0.0, "item_sd": 0.7},
    "few items": {"items": 20, "level": 0.5, "episode_sd": 0.5, "item_sd": 0.5},
    "near the ceiling": {"items": 100, "level": 3.0, "episode_sd": 0.5, "item_sd": 0.5},
}


def rates(experiments, world, learners=7):
    rng = np.random.default_rng(0)
    truth = true_accuracy(world["level"], world["episode_sd"], world["item_sd"])
    covered, positive, family = [], [], []
    pairs = np.triu_indices(learners, 1)
    for _ in range(experiments):
        sample = simulate(rng, learners, **world)
        means, differences = sample.means(), sample.differences()
        covered.append(np.mean((means.low <= truth) & (truth <= means.high)))
        positive.append(np.mean(differences.p[pairs] < 0.05))
        best = int(means.mean.argmax())
        family.append(bool((holm_pairs(differences.p)[best] < 0.05).any()))
    return float(np.mean(covered)), float(np.mean(positive)), float(np.mean(family))


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_the_truth_and_equal_learners_are_seldom_told_apart(name):
    coverage, false_positives, family = rates(300, WORLDS[name])
    assert 0.93 <= coverage <= 0.985
    assert false_positives <= 0.065
    assert family <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_coverage_and_false_positives_in_two_thousand_experiments(name):
    coverage, false_positives, family = rates(2000, WORLDS[name])
    assert 0.94 <= coverage <= 0.98
    assert 0.02 <= false_positives <= 0.055
    assert family <= 0.05


def test_clustering_by_query_alone_would_not_cover():
    """The check above can fail: with the clustering ignored, it does."""
    rng, world = np.random.default_rng(0), WORLDS["episodes only"]
    truth, covered = true_accuracy(0.5, 0.7, 0.0), []
    for _ in range(200):
        sample = simulate(rng, 1, **world)
        naive = clustered_sample(sample.values, list(range(EPISODES * QUERIES))).means()
        covered.append(naive.low[0] <= truth <= naive.high[0])
    assert np.mean(covered) < 0.9


@pytest.mark.slow
def test_percentile_bootstraps_cover_too_seldom_or_are_too_wide():
    """Why the closed form: the figures that the module's docstring quotes."""
    rng, world, draws = np.random.default_rng(0), WORLDS["both clusterings"], 500
    truth = true_accuracy(world["level"], world["episode_sd"], world["item_sd"])
    covered = {name: [] for name in ("episodes", "items", "both", "ours")}
    widths = {name: [] for name in covered}
    for _ in range(800):
        sample = simulate(rng, 1, **world)
        right, (episodes, items) = sample.values[0], sample.clusters
        times = [
            rng.multinomial(n, np.full(n, 1 / n), size=draws)[:, codes]
            for codes in (episodes, items)
            for n in [codes.max() + 1]
        ]
        means = sample.means()
        ends = {"ours": (means.low[0], means.high[0])}
        for name, weight in zip(covered, (*times, times[0] * times[1]), strict=False):
            drawn = (weight @ right) / weight.sum(axis=1)
            ends[name] = tuple(np.quantile(drawn, [0.025, 0.975]))
        for name, (low, high) in ends.items():
            covered[name].append(low <= truth <= high)
            widths[name].append(high - low)
    rate = {name: float(np.mean(hits)) for name, hits in covered.items()}
    assert 0.80 <= rate["items"] <= rate["episodes"] <= 0.92
    assert rate["both"] >= 0.97
    assert 0.93 <= rate["ours"] <= 0.975
    assert np.mean(widths["both"]) > 1.25 * np.mean(widths["ours"])


def test_independent_observations_give_the_wilson_interval_with_t():
    values = np.array([1.0] * 70 + [0.0] * 30)
    means = clustered_sample(values, list(range(100))).means()
    trials, t = 99.0, stats.t.ppf(0.975, 99)  # the unbiased variance divides by n - 1
    centre = (0.7 + t**2 / 2 / trials) / (1 + t**2 / trials)
    half = t * np.sqrt(0.7 * 0.3 / trials + t**2 / 4 / trials**2) / (1 + t**2 / trials)
    assert means.mean[0] == pytest.approx(0.7)
    assert (means.low[0], means.high[0]) == pytest.approx((centre - half, centre + half))


def test_the_one_way_variance_is_that_of_cluster_means():
    rng = np.random.default_rng(0)
    values = rng.random((2, 60))
    sample = clustered_sample(values, np.repeat(np.arange(12), 5).tolist())
    by_cluster = values.reshape(2, 12, 5).mean(axis=2)
    assert sample.covariances()[0] == pytest.approx(np.cov(by_cluster) / 12)


def test_two_equal_clusterings_count_once_and_crossed_ones_add_up():
    rng = np.random.default_rng(0)
    values = rng.random((3, 40))
    episodes, items = (np.arange(40) // 4).tolist(), (np.arange(40) % 8).tolist()
    once = clustered_sample(values, episodes).covariances()[-1]
    assert clustered_sample(values, episodes, episodes).covariances()[-1] == pytest.approx(once)
    cell = clustered_sample(values, [f"{e} {i}" for e, i in zip(episodes, items, strict=True)])
    expected = once + clustered_sample(values, items).covariances()[0] - cell.covariances()[0]
    assert clustered_sample(values, episodes, items).covariances()[-1] == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_or_all_wrong_is_not_certainty(value):
    values = np.full((1, 240), value)
    means = clustered_sample(values, np.repeat(np.arange(24), 10).tolist()).means()
    t2 = stats.t.ppf(0.975, 23) ** 2
    assert abs(means.high[0] - means.low[0]) == pytest.approx(t2 / (24 + t2))
    assert means.low[0] - 1e-12 <= value <= means.high[0] + 1e-12


def test_a_single_cluster_tells_nothing():
    sample = clustered_sample([[1, 0, 1], [0, 0, 0]], ["only"] * 3)
    means, differences = sample.means(), sample.differences()
    assert means.low.tolist() == [0, 0] and means.high.tolist() == [1, 1]
    assert differences.p.tolist() == [[1, 1], [1, 1]]
    assert differences.low[0, 1] == -1 and differences.high[0, 1] == pytest.approx(1)


def test_always_right_against_always_wrong_is_a_difference_without_certainty():
    episodes = np.repeat(np.arange(24), 10).tolist()
    differences = clustered_sample([[1.0] * 240, [0.0] * 240], episodes).differences()
    assert differences.difference[0, 1] == pytest.approx(1)
    assert 0 < differences.p[0, 1] < 0.001
    assert 0.5 < differences.low[0, 1] < 1 and differences.high[0, 1] == pytest.approx(1)


def test_equal_learners_do_not_differ_and_the_interval_says_how_much_they_might():
    values = np.random.default_rng(0).integers(0, 2, 240).astype(float)
    episodes = np.repeat(np.arange(24), 10).tolist()
    differences = clustered_sample([values, values], episodes).differences()
    assert differences.difference[0, 1] == 0 and differences.p[0, 1] == 1
    assert differences.low[0, 1] == -differences.high[0, 1] and 0.1 < differences.high[0, 1] < 0.2


def test_pairing_finds_a_small_difference_that_intervals_alone_would_hide():
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.random(60), 10)
    values = np.stack([(hard < 0.60), (hard < 0.66)]).astype(float)
    sample = clustered_sample(values, np.repeat(np.arange(60), 10).tolist())
    means = sample.means()
    assert means.high[0] > means.low[1]
    noisy = values.copy()
    noisy[1, ::25] = 1 - noisy[1, ::25]
    paired = clustered_sample(noisy, np.repeat(np.arange(60), 10).tolist()).differences()
    assert paired.high[0, 1] - paired.low[0, 1] < means.high[0] - means.low[0]


VALUES = st.integers(2, 5).flatmap(
    lambda learners: st.lists(
        st.lists(st.integers(0, 1), min_size=12, max_size=12),
        min_size=learners,
        max_size=learners,
    )
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.lists(st.integers(0, 4), min_size=12, max_size=12), st.randoms())
def test_any_answers_give_ordered_bounded_consistent_figures(values, items, random):
    episodes = [i // 3 for i in range(12)]
    sample = clustered_sample(values, episodes, items)
    means, d = sample.means(), sample.differences()
    assert np.all((means.low >= 0) & (means.high <= 1))
    assert np.all((means.low <= means.mean + 1e-12) & (means.mean <= means.high + 1e-12))
    assert np.all((d.low >= -1) & (d.high <= 1) & (d.p >= 0) & (d.p <= 1))
    assert np.all((d.low <= d.difference + 1e-12) & (d.difference <= d.high + 1e-12))
    np.testing.assert_allclose(d.difference, -d.difference.T, atol=1e-12)
    np.testing.assert_allclose(d.low, -d.high.T, atol=1e-9)
    np.testing.assert_allclose(d.p, d.p.T, atol=1e-9)
    if len(set(items)) > 1:
        excludes = (d.low > 1e-9) | (d.high < -1e-9)
        clear = np.abs(d.p - 0.05) > 1e-6
        assert np.array_equal(excludes[clear], (d.p < 0.05)[clear])
    order = list(range(12))
    random.shuffle(order)
    again = clustered_sample(
        np.array(values)[:, order], [episodes[i] for i in order], [items[i] for i in order]
    )
    np.testing.assert_allclose(again.means().low, means.low, atol=1e-9)
    np.testing.assert_allclose(again.differences().p, d.p, atol=1e-9)


def test_weights_make_each_episode_count_the_same():
    sample = clustered_sample([[1, 1, 1, 0]], ["a", "a", "a", "b"], weights=[1 / 3] * 3 + [1])
    assert sample.mean.tolist() == [0.5]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_monotone_bounded_and_rejects_as_the_step_down_procedure(p):
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p)) and np.all(adjusted <= 1)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)
    rejected = set()
    for step, i in enumerate(order):
        if p[i] * (len(p) - step) > 0.05:
            break
        rejected.add(int(i))
    assert {int(i) for i in np.flatnonzero(adjusted <= 0.05)} == rejected


def test_holm_over_pairs_counts_each_pair_once():
    p = np.array([[1.0, 0.01, 0.02], [0.01, 1.0, 0.5], [0.02, 0.5, 1.0]])
    adjusted = holm_pairs(p)
    assert adjusted[0, 1] == adjusted[1, 0] == pytest.approx(0.03)
    assert adjusted[0, 2] == pytest.approx(0.04) and adjusted[1, 2] == pytest.approx(0.5)
    assert np.diagonal(adjusted).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("values", "clusters", "weights"),
    [
        ([[1, 0]], [], None),
        ([[1, 0]], [["a"]], None),
        ([[1, 2]], [["a", "b"]], None),
        ([[1, float("nan")]], [["a", "b"]], None),
        ([[]], [[]], None),
        ([[1, 0]], [["a", "b"]], [0, 0]),
        ([[1, 0]], [["a", "b"]], [1]),
    ],
)
def test_shapes_that_do_not_agree_are_refused(values, clusters, weights):
    with pytest.raises(ValueError):
        clustered_sample(values, *clusters, weights=weights)

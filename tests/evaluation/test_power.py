"""Plans are kept: what is planned from a pilot is found as often as was planned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.evaluation.power import (
    Components,
    components,
    draws_for_width,
    episodes_needed,
    half_width,
    power,
)
from icl.evaluation.statistics import clustered_sample

QUERIES = 10


def draw(rng, episodes, items, difference, sd):
    """Two learners whose difference has known components; outcomes are graded, in [0, 1]."""
    ids = rng.integers(0, items, (episodes, QUERIES))
    gap = (
        difference
        + rng.normal(0, sd[0], (episodes, 1))
        + rng.normal(0, sd[1], items)[ids]
        + rng.normal(0, sd[2], (episodes, QUERIES))
    )
    values = np.stack([0.5 + gap / 2, 0.5 - gap / 2]).reshape(2, -1).clip(0, 1)
    names = np.repeat(np.arange(episodes), QUERIES).tolist()
    return clustered_sample(values, names, ids.ravel().tolist())


WORLDS = {
    "episodes differ": (400, (0.12, 0.0, 0.1)),
    "items differ": (400, (0.0, 0.12, 0.1)),
    "both": (150, (0.08, 0.08, 0.15)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_components_are_found_on_average(name):
    items, sd = WORLDS[name]
    rng = np.random.default_rng(0)
    found = [components(draw(rng, 30, items, 0.05, sd), 0, 1) for _ in range(200)]
    mean = np.mean([(c.episode, c.item, c.rest) for c in found], axis=0)
    assert mean == pytest.approx(np.square(sd), abs=0.0022)  # none below nought: a little too much
    assert 1 / np.mean([1 / c.items for c in found]) == pytest.approx(items, rel=0.05)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("wanted", [0.5, 0.8])
def test_a_difference_is_found_as_often_as_planned(name, wanted):
    items, sd = WORLDS[name]
    difference = 0.05
    truth = Components(*np.square(sd).tolist(), QUERIES, items)
    needed = episodes_needed(truth, difference, wanted)
    assert needed is not None and 6 <= needed <= 90
    rng = np.random.default_rng(1)
    p = [draw(rng, needed, items, difference, sd).differences().p[0, 1] for _ in range(500)]
    # the test takes the largest of three variances, so that it finds a little less
    assert wanted - 0.09 <= np.mean(np.array(p) < 0.05) <= wanted + 0.05


def test_right_and_wrong_answers_are_planned_from_pilots_of_two_dozen_episodes():
    """From the pilot's spread to power 0.8 in new runs of the size that pilots asked for."""
    from tests.evaluation.test_statistics import EPISODES

    rng = np.random.default_rng(2)

    def run(episodes, lift):
        ids = np.stack([rng.permutation(100)[:QUERIES] for _ in range(episodes)])
        logit = (
            np.array([0.5, 0.5 + lift])[:, None, None]
            + rng.normal(0, 0.4, (1, episodes, 1))
            + rng.normal(0, 0.3, (2, episodes, 1))
            + rng.normal(0, 0.5, 100)[ids][None]
        )
        right = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
        names = np.repeat(np.arange(episodes), QUERIES).tolist()
        return clustered_sample(right.reshape(2, -1).astype(float), names, ids.ravel().tolist())

    lift = 0.5
    true = float(np.mean([np.diff(run(200, lift).mean)[0] for _ in range(40)]))
    plans = [episodes_needed(components(run(EPISODES, 0.3), 0, 1), true, 0.8) for _ in range(60)]
    planned = int(np.median([plan for plan in plans if plan is not None]))
    assert plans.count(None) <= 3
    found = [run(planned, lift).differences().p[0, 1] < 0.05 for _ in range(300)]
    # a pilot's components cannot be below nought, so that plans are rather too long than too short
    assert 0.72 <= np.mean(found) <= 0.95


@settings(deadline=None)  # scipy loads in the first
@given(
    st.floats(0.001, 0.2), st.floats(0, 0.2), st.floats(0.001, 0.3), st.floats(2, 1000),
    st.floats(0.02, 0.4), st.integers(2, 500),
)  # fmt: skip
def test_more_episodes_and_larger_differences_are_never_worse(e, i, r, items, difference, n):
    found = Components(e, i, r, QUERIES, items)
    here = power(found, difference, n)
    assert 0 <= here <= 1
    assert power(found, difference, n + 10) >= here - 1e-6
    assert power(found, min(0.5, difference * 1.2), n) >= here - 1e-6
    assert power(found, difference, n, 0.005) <= here + 1e-6
    needed = episodes_needed(found, difference, 0.8)
    if needed is not None and needed > 2:
        assert power(found, difference, needed) >= 0.8 > power(found, difference, needed - 1)


def test_where_few_items_differ_much_no_number_of_episodes_will_do():
    found = Components(0.01, 0.04, 0.1, QUERIES, 20)
    assert episodes_needed(found, 0.05, 0.8) is None
    assert episodes_needed(Components(0.01, 0.04, 0.1, QUERIES, math.inf), 0.05, 0.8) is not None


@pytest.mark.parametrize(("difference", "wanted"), [(0, 0.8), (1, 0.8), (0.1, 1), (0.1, 0)])
def test_figures_out_of_range_are_refused(difference, wanted):
    with pytest.raises(ValueError, match="between 0 and 1"):
        episodes_needed(Components(0.1, 0, 0.1, QUERIES, math.inf), difference, wanted)
    with pytest.raises(ValueError, match="two episodes"):
        components(clustered_sample([[1, 0], [0, 1]], ["a", "a"]), 0, 1)


@pytest.mark.parametrize("wanted", [0.01, 0.02, 0.1])
def test_so_many_draws_and_no_fewer_give_the_width(wanted):
    found = Components(0.02, 0.0, 0.15, 25, math.inf)
    needed = draws_for_width(found, wanted)
    assert half_width(found, needed) <= wanted < half_width(found, needed - 1)
    # normal theory: 1.96 standard errors, each draw adding as much
    assert needed == pytest.approx(1.96**2 * (0.02 + 0.15 / 25) / wanted**2, rel=0.02, abs=4)


def test_a_planned_width_is_the_width_of_the_interval():
    items, sd = WORLDS["both"]
    truth = Components(*np.square(sd).tolist(), QUERIES, items)
    needed = draws_for_width(truth, 0.05)
    rng = np.random.default_rng(2)
    made = [draw(rng, needed, items, 0.05, sd).differences() for _ in range(50)]
    assert np.mean([d.high[0, 1] - d.low[0, 1] for d in made]) / 2 == pytest.approx(0.05, rel=0.1)


def test_too_few_items_are_mended_by_no_number_of_draws():
    found = Components(0.0, 0.2, 0.1, 25, 100)  # the items alone: a standard error of 0.045
    assert draws_for_width(found, 0.02) is None
    assert draws_for_width(found, 0.1) is not None
    with pytest.raises(ValueError, match="above 0"):
        draws_for_width(found, 0.0)

"""Metrics of labels and of distributions equal scikit-learn's and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from icl.metrics import labels, open_set, probabilities
from icl.metrics import reliability as calibration

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1)


@settings(deadline=None)
@given(PAIRS)
def test_label_metrics_equal_scikit_learn(pairs):
    predictions, gold = map(list, zip(*pairs, strict=True))
    assert labels.accuracy(predictions, gold) == pytest.approx(
        peer.accuracy_score(gold, predictions)
    )
    expected = peer.f1_score(gold, predictions, average="macro", zero_division=0)
    assert labels.macro_f1(predictions, gold) == pytest.approx(expected)
    assert labels.mcc(predictions, gold) == pytest.approx(
        peer.matthews_corrcoef(gold, predictions), abs=1e-12
    )
    recalls = peer.recall_score(
        gold, predictions, labels=sorted(set(gold)), average=None, zero_division=0
    )
    assert labels.balanced_accuracy(predictions, gold) == pytest.approx(np.mean(recalls))


@settings(deadline=None)
@given(PAIRS, st.randoms())
def test_label_metrics_depend_on_no_order_and_no_names(pairs, random):
    renamed = [(str(ord(p)), str(ord(g))) for p, g in pairs]
    random.shuffle(renamed)
    for function in (labels.accuracy, labels.balanced_accuracy, labels.macro_f1, labels.mcc):
        before = function(*map(list, zip(*pairs, strict=True)))
        assert function(*map(list, zip(*renamed, strict=True))) == pytest.approx(before)


@st.composite
def rows(draw):
    """Rows of log-probabilities of two to five labels each, and columns."""
    found, gold = [], []
    for _ in range(draw(st.integers(1, 12))):
        size = draw(st.integers(2, 5))
        scores = np.array(draw(st.lists(st.floats(-8, 8), min_size=size, max_size=size)))
        found.append((scores - np.log(np.exp(scores).sum())).tolist())
        gold.append(draw(st.integers(0, size - 1)))
    return found, gold


@settings(deadline=None)
@given(rows())
def test_nll_and_brier_equal_plain_loops(made):
    found, gold = made
    expected = [
        -math.log(max(math.exp(row[g]), 1e-300)) for row, g in zip(found, gold, strict=True)
    ]
    assert probabilities.nll(found, gold) == pytest.approx(sum(expected) / len(expected), abs=1e-9)
    squares = [
        sum((math.exp(x) - (c == g)) ** 2 for c, x in enumerate(row))
        for row, g in zip(found, gold, strict=True)
    ]
    assert probabilities.brier(found, gold) == pytest.approx(sum(squares) / len(squares))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=2))
def test_two_labels_give_scikit_learns_log_loss_and_twice_its_brier_score(made):
    shares, truth = zip(*made, strict=True)
    found = [[math.log(1 - s), math.log(s)] for s in shares]
    gold = [int(t) for t in truth]
    expected = peer.log_loss(gold, shares, labels=[0, 1])
    assert probabilities.nll(found, gold) == pytest.approx(expected)
    twice = 2 * peer.brier_score_loss(gold, shares, pos_label=1)
    assert probabilities.brier(found, gold) == pytest.approx(twice)


def test_a_right_label_ruled_out_is_infinitely_unlikely():
    assert probabilities.nll([[0.0, -math.inf]], [1]) == math.inf
    assert probabilities.brier([[0.0, -math.inf]], [1]) == 2.0


@pytest.mark.parametrize(
    ("found", "gold", "said"),
    [
        ([[0.0]], [0, 0], "1 rows"),
        ([], [], "at least one"),
        ([[math.log(0.5), math.log(0.5)], [0.9, 0.1]], [0, 1], "row 1 holds no log-prob"),
        ([[math.nan, 0.0]], [0], "row 0"),
        ([[math.log(0.5), math.log(0.5)]], [2], "no column of 2"),
    ],
)
def test_what_is_no_distribution_is_refused(found, gold, said):
    with pytest.raises(ValueError, match=said):
        probabilities.nll(found, gold)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_ece_equals_the_sum_over_bins_of_its_definition(made, bins):
    """Guo et al. 2017, equations 2 and 3, one query and one bin at a time."""
    expected = 0.0
    for m in range(bins):
        low, high = m / bins, (m + 1) / bins
        inside = [(sure, hit) for sure, hit in made if low < sure <= high or (m == 0 and sure == 0)]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            confidence = sum(sure for sure, _ in inside) / len(inside)
            expected += len(inside) / len(made) * abs(accuracy - confidence)
    found = calibration.reliability(*map(list, zip(*made, strict=True)), bins)
    # np.linspace and m / bins differ in the last digit, which may move a query on an edge
    edges = {round(b.high, 9) for b in found}
    if not any(round(sure, 9) in edges for sure, _ in made):
        assert calibration.ece(found) == pytest.approx(expected)
    assert sum(b.count for b in found) == len(made)


def test_perfect_calibration_is_nought_and_certain_error_is_one():
    sure = [0.75] * 4
    assert calibration.ece(calibration.reliability(sure, [True, True, True, False])) == 0
    assert calibration.ece(calibration.reliability([1.0], [False])) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2))
def test_auroc_equals_scikit_learn_and_the_count_of_pairs(made):
    scores, inside = map(list, zip(*made, strict=True))
    if len(set(inside)) < 2:
        with pytest.raises(ValueError, match="of none"):
            open_set.auroc(scores, inside)
        return
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, x in made if x for b, y in made if not y
    ]  # fmt: skip
    found = open_set.auroc(scores, inside)
    assert found == pytest.approx(sum(pairs) / len(pairs))
    assert found == pytest.approx(peer.roc_auc_score(inside, scores))

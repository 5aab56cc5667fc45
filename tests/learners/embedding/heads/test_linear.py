"""Linear heads against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV

from icl.learners.embedding.heads.linear import cross_validated_strength, folds, logistic, ridge

RNG = np.random.default_rng(0)


def problem(n: int, width: int, ways: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wanted = np.arange(n) % ways
    centres = RNG.standard_normal((ways, width)) / np.sqrt(width)
    support = centres[wanted] + RNG.standard_normal((n, width)) / np.sqrt(width)
    return support, wanted, RNG.standard_normal((20, width)) / np.sqrt(width)


@pytest.mark.parametrize("ways", [2, 3, 5])
@pytest.mark.parametrize(("n", "width"), [(10, 30), (40, 6)])
@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
def test_logistic_regression_is_scikit_learns(
    n: int, width: int, ways: int, strength: float
) -> None:
    support, wanted, queries = problem(n, width, ways)
    peer = LogisticRegression(C=strength, max_iter=10000, tol=1e-9).fit(support, wanted)
    head = logistic(torch.tensor(support)[None], torch.tensor(wanted)[None], ways, strength)
    out = head.scores(torch.tensor(queries)[None])[0].softmax(-1).numpy()
    np.testing.assert_allclose(out, peer.predict_proba(queries), atol=2e-4)


def test_each_task_of_a_batch_has_its_own_strength() -> None:
    support, wanted, queries = problem(12, 20, 3)
    both = torch.tensor(support).expand(2, -1, -1)
    targets = torch.tensor(wanted).expand(2, -1)
    together = logistic(both, targets, 3, torch.tensor([0.1, 100.0]))
    for i, strength in enumerate((0.1, 100.0)):
        alone = logistic(both[:1], targets[:1], 3, strength)
        torch.testing.assert_close(
            together.task(i).scores(torch.tensor(queries)[None]),
            alone.scores(torch.tensor(queries)[None]),
            atol=1e-4,
            rtol=0,
        )


def test_folds_are_stratified_and_as_many_as_the_rarest_class_allows() -> None:
    wanted = torch.tensor([0] * 7 + [1] * 3)
    dealt = folds(wanted, 2)
    assert int(dealt.max()) + 1 == 3
    for fold in range(3):
        assert sorted(set(wanted[dealt == fold].tolist())) == [0, 1]
    assert int(folds(torch.tensor([0, 0, 1]), 2).max()) == 0


def test_the_chosen_strength_has_the_least_held_out_log_loss() -> None:
    support, wanted, _ = problem(30, 12, 3)
    dealt = folds(torch.tensor(wanted), 3).numpy()
    losses = []
    for strength in (0.01, 1.0, 100.0):
        loss = 0.0
        for fold in range(5):
            kept, held = dealt != fold, dealt == fold
            peer = LogisticRegression(C=strength, max_iter=10000, tol=1e-9)
            peer.fit(support[kept], wanted[kept])
            known = peer.predict_log_proba(support[held])
            loss -= known[np.arange(held.sum()), wanted[held]].sum()
        losses.append(loss)
    chosen = cross_validated_strength(
        torch.tensor(support), torch.tensor(wanted), 3, (0.01, 1.0, 100.0)
    )
    assert chosen == (0.01, 1.0, 100.0)[int(np.argmin(losses))]


@pytest.mark.parametrize(("n", "width"), [(9, 30), (45, 6)])
def test_ridge_is_scikit_learns_ridge_classifier_with_leave_one_out(n: int, width: int) -> None:
    support, wanted, queries = problem(n, width, 3)
    penalties = (0.01, 0.1, 1.0, 10.0)
    peer = RidgeClassifierCV(alphas=penalties).fit(support, wanted)
    head = ridge(torch.tensor(support)[None], torch.tensor(wanted)[None], 3, penalties, 1.0)
    out = head.scores(torch.tensor(queries)[None])[0].numpy()
    np.testing.assert_allclose(out, peer.decision_function(queries), atol=1e-5)

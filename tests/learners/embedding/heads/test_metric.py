"""Metric and transductive heads against loops written from the papers' equations in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor

from icl.learners.embedding.heads import metric, transductive
from icl.learners.embedding.heads.fitted import Fitted

WAYS, WIDTH = 3, 7
RNG = np.random.default_rng(0)
TARGETS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
CENTRES = RNG.standard_normal((WAYS, WIDTH))
SUPPORT = CENTRES[TARGETS] + 0.7 * RNG.standard_normal((10, WIDTH))
QUERIES = CENTRES[[0, 1, 2, 0, 1, 2]] + 0.9 * RNG.standard_normal((6, WIDTH))
MEANS = np.stack([SUPPORT[k == TARGETS].mean(0) for k in range(WAYS)])

HEADS: dict[str, Callable[[Tensor, Tensor, int], Fitted]] = {
    "euclidean": lambda s, y, k: metric.euclidean(s, y, k, 0.5),
    "cosine": lambda s, y, k: metric.cosine(s, y, k, 0.5),
    "mahalanobis": lambda s, y, k: metric.mahalanobis(s, y, k, 0.5, 0.3),
    "matching": lambda s, y, k: metric.matching(s, y, k, 0.5),
    "knn": lambda s, y, k: metric.knn(s, y, k, 4, 0.5),
    "soft-k-means": lambda s, y, k: transductive.soft_k_means(s, y, k, 0.5, 3),
    "laplacian": lambda s, y, k: transductive.laplacian(s, y, k, 0.5, 0.8, 2, 20),
}
INDUCTIVE = [name for name in HEADS if name not in ("soft-k-means", "laplacian")]


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)[None]


def ours(name: str, queries: np.ndarray = QUERIES) -> np.ndarray:
    head = HEADS[name](tensor(SUPPORT), tensor(TARGETS), WAYS)
    return head.scores(tensor(queries))[0].log_softmax(-1).numpy()


def log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_euclidean_prototypes_are_equation_2_of_the_paper() -> None:
    scores = np.array([[-((q - c) ** 2).sum() / 0.5 for c in MEANS] for q in QUERIES])
    np.testing.assert_allclose(ours("euclidean"), log_softmax(scores), atol=1e-6)


def test_euclidean_prototypes_predict_as_scikit_learns_nearest_centroid() -> None:
    peer = NearestCentroid().fit(SUPPORT, TARGETS).predict(QUERIES)
    assert (ours("euclidean").argmax(1) == peer).all()


def test_cosine_prototypes_compare_by_the_angle() -> None:
    scores = np.array([[cosine(q, c) / 0.5 for c in MEANS] for q in QUERIES])
    np.testing.assert_allclose(ours("cosine"), log_softmax(scores), atol=1e-6)


def test_mahalanobis_is_simple_cnaps_with_the_covariance_written_out() -> None:
    total = np.cov(SUPPORT.T)
    noise = 0.3 * np.trace(total) / WIDTH * np.eye(WIDTH)
    scores = np.zeros((len(QUERIES), WAYS))
    for k in range(WAYS):
        own = SUPPORT[k == TARGETS]
        share = len(own) / (len(own) + 1)
        precision = np.linalg.inv(share * np.cov(own.T) + (1 - share) * total + noise)
        for i, q in enumerate(QUERIES):
            scores[i, k] = -(q - MEANS[k]) @ precision @ (q - MEANS[k]) / (2 * 0.5 * WIDTH)
    np.testing.assert_allclose(ours("mahalanobis"), log_softmax(scores), atol=1e-5)


def test_mahalanobis_works_with_one_example_a_class() -> None:
    head = metric.mahalanobis(tensor(SUPPORT[:3]), tensor(TARGETS[:3]), WAYS)
    assert head.scores(tensor(QUERIES)).isfinite().all()


def test_matching_adds_up_attention_as_equation_1_of_the_paper() -> None:
    expected = np.zeros((len(QUERIES), WAYS))
    for i, q in enumerate(QUERIES):
        weights = np.array([np.exp(cosine(q, x) / 0.5) for x in SUPPORT])
        for weight, k in zip(weights / weights.sum(), TARGETS, strict=True):
            expected[i, k] += weight
    np.testing.assert_allclose(np.exp(ours("matching")), expected, atol=1e-6)


def test_neighbours_vote_as_in_scikit_learn_with_the_same_weights() -> None:
    peer = KNeighborsClassifier(4, metric="cosine", weights=lambda d: np.exp(-d / 0.5))
    expected = peer.fit(SUPPORT, TARGETS).predict_proba(QUERIES)
    np.testing.assert_allclose(np.exp(ours("knn")), expected, atol=1e-3)


def test_soft_k_means_refines_as_equations_3_and_4_of_the_paper() -> None:
    refined = MEANS.copy()
    for _ in range(3):
        shares = np.exp(
            log_softmax(np.array([[-((q - c) ** 2).sum() / 0.5 for c in refined] for q in QUERIES]))
        )
        refined = np.stack(
            [
                (SUPPORT[k == TARGETS].sum(0) + shares[:, k] @ QUERIES)
                / ((k == TARGETS).sum() + shares[:, k].sum())
                for k in range(WAYS)
            ]
        )
    scores = np.array([[-((q - c) ** 2).sum() / 0.5 for c in refined] for q in QUERIES])
    np.testing.assert_allclose(ours("soft-k-means"), log_softmax(scores), atol=1e-5)


def test_laplacian_labels_follow_the_papers_update() -> None:
    unary = np.array([[((q - c) ** 2).sum() / 0.5 for c in MEANS] for q in QUERIES])
    near = np.zeros((6, 6))
    for i in range(6):
        others = sorted(
            (j for j in range(6) if j != i), key=lambda j: -cosine(QUERIES[i], QUERIES[j])
        )
        near[i, others[:2]] = 1
    near = (near + near.T) / 2
    labels = np.exp(log_softmax(-unary))
    for _ in range(20):
        last = -unary + 0.8 * near @ labels
        labels = np.exp(log_softmax(last))
    np.testing.assert_allclose(ours("laplacian"), log_softmax(last), atol=1e-5)


@pytest.mark.parametrize("name", INDUCTIVE)
def test_one_query_alone_equals_it_in_a_batch(name: str) -> None:
    alone = np.concatenate([ours(name, q[None]) for q in QUERIES])
    np.testing.assert_allclose(alone, ours(name), atol=1e-6)


@pytest.mark.parametrize("name", ["soft-k-means", "laplacian"])
def test_transductive_heads_answer_otherwise_when_queries_come_alone(name: str) -> None:
    alone = np.concatenate([ours(name, q[None]) for q in QUERIES])
    assert np.abs(alone - ours(name)).max() > 1e-2


@pytest.mark.parametrize("name", HEADS)
def test_the_order_of_support_queries_and_labels_changes_nothing(name: str) -> None:
    support, queries = RNG.permutation(len(SUPPORT)), RNG.permutation(len(QUERIES))
    labels = np.array([2, 0, 1])
    head = HEADS[name](tensor(SUPPORT[support]), tensor(labels[TARGETS[support]]), WAYS)
    turned = head.scores(tensor(QUERIES[queries]))[0].log_softmax(-1).numpy()
    np.testing.assert_allclose(turned[:, labels], ours(name)[queries], atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_of_tasks_equals_the_loop(name: str) -> None:
    other = RNG.standard_normal(SUPPORT.shape)
    both = torch.from_numpy(np.stack([SUPPORT, other]))
    head = HEADS[name](both, tensor(TARGETS).expand(2, -1), WAYS)
    alone = HEADS[name](tensor(other), tensor(TARGETS), WAYS).scores(tensor(QUERIES))
    torch.testing.assert_close(head.scores(tensor(QUERIES).expand(2, -1, -1))[1:], alone)
    torch.testing.assert_close(head.task(1).scores(tensor(QUERIES)), alone)


@pytest.mark.parametrize("name", ["euclidean", "knn"])
def test_a_large_common_part_costs_few_digits(name: str) -> None:
    support, queries = SUPPORT.astype(np.float32), QUERIES.astype(np.float32)
    shift = np.float32(1000)
    if name == "knn":
        support, queries, shift = support * 1000, queries * 1000, np.float32(0)
    head = HEADS[name](tensor(support + shift), tensor(TARGETS), WAYS)
    moved = head.scores(tensor(queries + shift))[0].log_softmax(-1).numpy()
    np.testing.assert_allclose(moved, ours(name), atol=5e-3)

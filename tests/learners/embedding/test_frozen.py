"""Majority, prototypes and the linear probe against references written from their equations."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from icl.learners.baselines.majority import Majority
from icl.learners.embedding.base import HeadPredictor
from icl.learners.embedding.heads.metric import euclidean
from icl.learners.embedding.whitening import Whitening
from icl.learners.registry import make
from icl.models.embedding.embedder import Embedder
from icl.tasks.task import Example
from tests import tiny
from tests.learners import problems

SUPPORT, LABELS = problems.support(3), problems.labels()
TEXTS = [e.fields for e in problems.query()]
PLAIN = {"layer": -1, "pooling": "mean", "prompted": False}


def embed(texts: list[str]) -> np.ndarray:
    """Mean-pooled last states, BOS left out, one text at a time through the plain model."""
    model, rows = tiny.model("llama").eval(), []
    for text in texts:
        ids = torch.tensor([tiny.tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            rows.append(model.base_model(ids).last_hidden_state[0, 1:].mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy().astype(float)


def test_majority_counts_the_support_labels() -> None:
    support = [*problems.support(1), problems.example("organ", 3)]
    out = make("majority", {}, tiny.backbone()).adapt(support, LABELS).log_probs(TEXTS)
    assert isinstance(make("majority", {}, tiny.backbone()), Majority)
    expected = np.log([2 / 7, 2 / 7, 3 / 7])
    np.testing.assert_allclose(out.numpy(), np.tile(expected, (6, 1)), atol=1e-6)


def test_embeddings_equal_the_plain_model_one_text_at_a_time() -> None:
    texts = [e.text for e in SUPPORT]
    ours = torch.nn.functional.normalize(Embedder(tiny.backbone(), -1, "mean").embed(texts), dim=1)
    np.testing.assert_allclose(ours.numpy(), embed(texts), atol=1e-5)


def test_an_inner_layer_equals_transformers_hidden_states() -> None:
    model = tiny.model("llama").eval()
    ids = torch.tensor([tiny.tokenizer()("Montag")["input_ids"]])
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    for layer in (0, 1, 2):
        ours = Embedder(tiny.backbone(), layer, "last").embed(["Montag"])
        torch.testing.assert_close(ours[0], states[layer][0, -1], atol=1e-5, rtol=0)


def test_prototypes_equal_the_papers_equation() -> None:
    support, queries = embed([e.text for e in SUPPORT]), embed([t["text"] for t in TEXTS])
    wanted = np.array([e.label for e in SUPPORT])
    means = np.stack([support[wanted == name].mean(0) for name in LABELS.names])
    scores = -((queries[:, None] - means[None]) ** 2).sum(-1) / 0.1
    expected = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    out = make("prototypes", PLAIN, tiny.backbone()).adapt(SUPPORT, LABELS).log_probs(TEXTS)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-4)


def test_a_class_without_support_gets_no_mass() -> None:
    support = [e for e in SUPPORT if e.label != "weekday"]
    for method in ("prototypes", "knn", "matching", "logistic", "ridge", "svm"):
        out = make(method, {}, tiny.backbone()).adapt(support, LABELS).log_probs(TEXTS)
        assert out.isfinite().all()
        assert (out[:, 1].exp() == 0).all()
        torch.testing.assert_close(out.exp().sum(1), torch.ones(6))


def test_the_linear_probe_is_scikit_learns_logistic_regression() -> None:
    wanted = [LABELS.index(e.label) for e in SUPPORT]
    classifier = LogisticRegression(C=10.0, max_iter=1000, tol=1e-6)
    classifier.fit(embed([e.text for e in SUPPORT]), wanted)
    expected = classifier.predict_log_proba(embed([t["text"] for t in TEXTS]))
    predictor = make("linear-probe", PLAIN, tiny.backbone()).adapt(SUPPORT, LABELS)
    np.testing.assert_allclose(predictor.log_probs(TEXTS).numpy(), expected, atol=1e-3)
    assert predictor.trained_parameters == 3 * (32 + 1)


def test_whitening_gives_many_vectors_a_covariance_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    points = torch.randn(5000, 6, generator=generator) @ mixing + 3
    white = Whitening.fit(points)(points)
    np.testing.assert_allclose(white.mean(0).numpy(), 0, atol=1e-3)
    covariance = np.cov(white.numpy().T)
    np.testing.assert_allclose(covariance / np.trace(covariance) * 6, np.eye(6), atol=0.05)


def test_whitening_of_few_vectors_is_finite_and_is_shrunk_towards_a_plain_shift() -> None:
    points = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    few = Whitening.fit(points)
    assert few.matrix.isfinite().all()
    same = Whitening.fit(points[:1].expand(4, -1))
    torch.testing.assert_close(same.matrix, torch.eye(50))


def test_a_whitened_learner_fits_and_asks_in_the_same_space() -> None:
    support, queries = (
        torch.from_numpy(embed(texts)).float()
        for texts in ([e.text for e in SUPPORT], [t["text"] for t in TEXTS])
    )
    whitening = Whitening.fit(support)
    wanted = torch.tensor([LABELS.index(e.label) for e in SUPPORT])
    expected = euclidean(whitening(support)[None], wanted[None], 3, 0.1)
    learner = make("prototypes", {**PLAIN, "whiten": True}, tiny.backbone())
    out = learner.adapt(SUPPORT, LABELS).log_probs(TEXTS)
    wanted_out = expected.scores(whitening(queries)[None])[0].log_softmax(-1)
    torch.testing.assert_close(out, wanted_out, atol=5e-3, rtol=1e-3)


def test_the_in_scope_score_of_prototypes_falls_with_the_distance_to_the_nearest() -> None:
    predictor = make("prototypes", PLAIN, tiny.backbone()).adapt(SUPPORT, LABELS)
    assert isinstance(predictor, HeadPredictor)
    support, queries = embed([e.text for e in SUPPORT]), embed([t["text"] for t in TEXTS])
    wanted = np.array([e.label for e in SUPPORT])
    means = np.stack([support[wanted == name].mean(0) for name in LABELS.names])
    nearest = ((queries[:, None] - means[None]) ** 2).sum(-1).min(1)
    out = predictor.in_scope(TEXTS).numpy()
    np.testing.assert_allclose(out - out[0], (nearest[0] - nearest) / 0.1, atol=1e-3)


def test_stratified_guesses_come_as_often_as_labels_stand_in_the_support_and_repeat() -> None:
    support = [problems.example("month", i) for i in range(6)] + problems.support(2)[1:3]
    texts = [{"text": f"query {i}"} for i in range(600)]
    predictor = make("stratified", {}, tiny.backbone()).adapt(support, LABELS)
    guesses = predictor.log_probs(texts).argmax(1)
    counts = np.bincount(guesses.numpy(), minlength=3) / 600
    np.testing.assert_allclose(counts, [6 / 8, 1 / 8, 1 / 8], atol=0.05)
    assert torch.equal(guesses, predictor.log_probs(texts).argmax(1))
    other = make("stratified", {"seed": 1}, tiny.backbone()).adapt(support, LABELS)
    assert not torch.equal(guesses, other.log_probs(texts).argmax(1))


def test_tfidf_learns_words_without_any_model() -> None:
    texts = {"month": "in january snow", "weekday": "on monday work", "organ": "the heart beats"}
    support = [Example(k, {"text": t}, k, "eng", k) for k, t in texts.items()]
    backbone = tiny.backbone()
    predictor = make("tfidf", {}, backbone).adapt(support, LABELS)
    queries = [{"text": "january"}, {"text": "a monday"}, {"text": "heart"}]
    assert predictor.log_probs(queries).argmax(1).tolist() == [0, 1, 2]
    assert backbone.meter.computed_tokens == backbone.meter.prompt_tokens == 0

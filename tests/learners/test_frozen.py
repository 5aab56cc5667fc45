"""Majority, prototypes and the linear probe against references written from their equations."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from icl.learners.majority import Majority
from icl.learners.registry import make
from icl.models.embedder import Embedder
from tests import tiny
from tests.learners import problems

SUPPORT, LABELS = problems.support(3), problems.labels()
TEXTS = [e.fields for e in problems.query()]
PLAIN = {"layer": -1, "pooling": "mean"}


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

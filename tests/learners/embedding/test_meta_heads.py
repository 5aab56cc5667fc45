"""Meta-trained heads: they start where the frozen ones are, follow their papers, and learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icl.learners.base import MetaLearner
from icl.learners.embedding.meta_metric import (
    MetaMatchingParams,
    RelationParams,
    _MatchingNet,
    _RelationNet,
)
from icl.learners.registry import make
from tests import tiny, tiny_encoders
from tests.learners import problems

METHODS = ("meta-prototypes", "meta-matching", "relation", "snail", "mann", "multitask")
EPISODES = [problems.episode(0), problems.episode(1), problems.episode(2, shots=3)]
TEXTS = [e.fields for e in problems.query()]


def learner(method: str, **params: Any) -> MetaLearner:
    found = make(method, params, tiny_encoders.encoder())
    assert isinstance(found, MetaLearner)
    return found


def train(subject: MetaLearner, steps: int, rate: float = 0.01) -> list[float]:
    optimiser = torch.optim.Adam(subject.trainable_parameters().values(), lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss, _ = subject.meta_loss(EPISODES)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def predict(subject: Any, shots: int = 2) -> Tensor:
    out: Tensor = subject.adapt(problems.support(shots), problems.labels()).log_probs(TEXTS)
    return out


@pytest.mark.parametrize("tune", ["projection", "lora", "nothing"])
@pytest.mark.parametrize(
    ("method", "frozen"), [("meta-prototypes", "prototypes"), ("meta-matching", "matching")]
)
def test_an_untrained_head_is_the_frozen_one(method: str, frozen: str, tune: str) -> None:
    params = {"targets": ("query",)} if tune == "lora" else {}
    start = predict(learner(method, tune=tune, **params))
    plain = predict(make(frozen, {}, tiny_encoders.encoder()))
    torch.testing.assert_close(start, plain, atol=2e-4, rtol=0)


@pytest.mark.parametrize("method", ["meta-prototypes", "meta-matching"])
def test_the_meta_loss_is_the_mean_log_loss_of_the_queries_after_adaptation(method: str) -> None:
    subject = learner(method)
    train(subject, 2)
    expected = []
    for e in EPISODES:
        out = subject.adapt(e.support, e.labels).log_probs([q.fields for q in e.query])
        gold = torch.tensor([e.labels.index(q.label) for q in e.query])
        expected.append(-out.gather(1, gold[:, None]).mean())
    loss, metrics = subject.meta_loss(EPISODES)
    torch.testing.assert_close(loss.detach(), torch.stack(expected).mean(), atol=1e-4, rtol=0)
    assert 0 <= metrics["query_accuracy"] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_and_moves_every_parameter(method: str) -> None:
    subject = learner(method)
    before = subject.state_dict()
    losses = train(subject, 25)
    assert losses[-1] < losses[0]
    after = subject.state_dict()
    assert before.keys() == after.keys()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []


@pytest.mark.parametrize("method", METHODS)
def test_lora_on_the_encoder_is_trained_through_the_head(method: str) -> None:
    subject = learner(method, tune="lora", targets=("query", "value"), rank=2)
    factors = {k: v for k, v in subject.trainable_parameters().items() if k.startswith("lora.")}
    assert len(factors) == 3 * 2 * 2
    before = {name: value.detach().clone() for name, value in factors.items()}
    losses = train(subject, 12)
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], factors[name]) for name in before)


def test_lora_on_a_causal_model_is_trained_from_an_inner_layer() -> None:
    params = {"tune": "lora", "targets": ["q_proj"], "layer": 2, "pooling": "mean"}
    subject = make("meta-prototypes", params, tiny.backbone())
    assert isinstance(subject, MetaLearner)
    loss, _ = subject.meta_loss(EPISODES)
    torch.autograd.backward(loss)
    moved = {
        name: value.grad is not None and bool(value.grad.any())
        for name, value in subject.trainable_parameters().items()
        if name.endswith("lora_B")
    }
    assert sorted(moved.values()) == [False, True, True]  # the layer above is not run


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_state_gives_the_same_answers_in_a_new_learner(method: str) -> None:
    subject = learner(method)
    train(subject, 3)
    other = learner(method, seed=1)
    assert not torch.allclose(predict(other), predict(subject), atol=1e-4)
    other.load_state_dict(subject.state_dict())
    assert torch.equal(predict(other), predict(subject))


@pytest.mark.parametrize("method", METHODS)
def test_a_predictor_stays_as_it_is_when_its_learner_trains_on(method: str) -> None:
    subject = learner(method)
    predictor = subject.adapt(problems.support(2), problems.labels())
    before = predictor.log_probs(TEXTS)
    train(subject, 3)
    assert torch.equal(predictor.log_probs(TEXTS), before)
    assert not torch.allclose(predict(subject), before, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_support_and_label_order_change_nothing_even_for_heads_that_read_in_order(
    method: str,
) -> None:
    subject = learner(method)
    train(subject, 3)
    names = (problems.NAMES[2], problems.NAMES[0], problems.NAMES[1])
    straight = predict(subject)
    turned = subject.adapt(problems.support(2)[::-1], problems.labels(names)).log_probs(TEXTS)
    columns = [names.index(name) for name in problems.NAMES]
    torch.testing.assert_close(turned[:, columns], straight, atol=1e-5, rtol=0)


def test_full_context_embeddings_are_the_papers_equations() -> None:
    width, reads = 5, 2
    params = MetaMatchingParams(tune="nothing", full_context=True, reads=reads, context_weight=1)
    net = _MatchingNet(width, params).seeded(0)
    generator = torch.Generator().manual_seed(1)
    support = torch.randn(1, 4, width, generator=generator)
    queries = torch.randn(1, 3, width, generator=generator)
    wanted = torch.tensor([[0, 1, 0, 1]])
    with torch.no_grad():
        ours = net.fit(support, wanted, 2).scores(queries)[0].log_softmax(-1).exp().numpy()

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray, weights: list[np.ndarray]) -> Any:
        gates = weights[0] @ x + weights[2] + weights[1] @ h + weights[3]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    own = {name: value.detach().numpy() for name, value in net.named_parameters()}
    xs, context = support[0].numpy(), support[0].numpy().copy()
    for suffix, order in (("", range(4)), ("_reverse", range(3, -1, -1))):
        parts = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [own[f"both_ways.{part}{suffix}"] for part in parts]
        h, c = np.zeros(width), np.zeros(width)
        for i in order:
            h, c = lstm(xs[i], h, c, weights)
            context[i] += h
    reader = [own[f"reader.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    expected = np.zeros((3, 2))
    for row, query in enumerate(queries[0].numpy()):
        h, c, found = np.zeros(width), np.zeros(width), np.zeros(width)
        for _ in range(reads):
            step, c = lstm(np.concatenate([query, found]), h, c, reader)
            h = step + query
            weights_ = np.exp(context @ h)
            found = weights_ @ context / weights_.sum()
        cosine = context @ h / np.linalg.norm(context, axis=1) / np.linalg.norm(h)
        weights_ = np.exp(cosine / 0.1)
        for i, k in enumerate(wanted[0].tolist()):
            expected[row, k] += weights_[i] / weights_.sum()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("interactions", [True, False])
def test_relation_scores_and_loss_are_the_papers(interactions: bool) -> None:
    width = 6
    net = _RelationNet(width, RelationParams(tune="nothing", interactions=interactions, hidden=7))
    generator = torch.Generator().manual_seed(1)
    support = torch.randn(1, 4, width, generator=generator)
    queries = torch.randn(1, 3, width, generator=generator)
    wanted = torch.tensor([[0, 1, 0, 1]])
    gold = torch.tensor([[1, 0, 0]])
    expected = torch.zeros(3, 2)
    for i in range(3):
        for k in range(2):
            c = support[0][wanted[0] == k].mean(0) * width**0.5
            q = queries[0, i] * width**0.5
            pair = [c, q, c * q, (c - q).abs()] if interactions else [c, q]
            expected[i, k] = net.relation(torch.cat(pair)).squeeze()
    scores = net.fit(support, wanted, 2).scores(queries)
    torch.testing.assert_close(scores[0], expected, atol=1e-5, rtol=0)
    squared = sum(
        (torch.sigmoid(expected[i, k]) - float(gold[0, i] == k)) ** 2
        for i in range(3)
        for k in range(2)
    )
    torch.testing.assert_close(net.loss(scores, gold)[0], squared / 6, atol=1e-6, rtol=0)

"""What every learner must keep, whatever its method."""

from __future__ import annotations

import pytest
import torch

from icl.errors import IclError
from icl.learners.base import Learner, MetaLearner
from icl.learners.registry import is_meta_learner, make, methods, validate
from tests import tiny
from tests.learners import problems

METHODS = [m for m in methods() if m != "setfit"]  # wants an encoder: see test_finetuning.py
ORDER_FREE = [m for m in METHODS if m not in {"in-context", "metaicl"}]


@pytest.fixture(scope="module", params=METHODS)
def learner(request: pytest.FixtureRequest) -> Learner:
    params = {"fomaml": {"inner_steps": 2}, "lora": {"steps": 3}}.get(request.param, {})
    return make(request.param, params, tiny.backbone("gemma3-hybrid"))


def log_probs(learner: Learner, shots: int = 2, names: tuple[str, ...] = problems.NAMES):  # type: ignore[no-untyped-def]
    predictor = learner.adapt(problems.support(shots, names), problems.labels(names))
    return predictor.log_probs([e.fields for e in problems.query(names)])


def test_log_probs_are_normalised_finite_float32_with_a_column_a_label(learner: Learner) -> None:
    out = log_probs(learner)
    assert out.shape == (6, 3)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    torch.testing.assert_close(out.exp().sum(1), torch.ones(6), atol=1e-5, rtol=0)


def test_one_query_alone_equals_it_in_a_batch(learner: Learner) -> None:
    if learner.transductive:
        pytest.skip("sees all queries at once: shown to differ in heads/test_metric.py")
    predictor = learner.adapt(problems.support(), problems.labels())
    texts = [e.fields for e in problems.query()]
    alone = torch.cat([predictor.log_probs([text]) for text in texts])
    torch.testing.assert_close(predictor.log_probs(texts), alone, atol=2e-5, rtol=0)


def test_adapting_twice_gives_the_same_bits_and_leaves_the_learner_alone(learner: Learner) -> None:
    first = log_probs(learner)
    log_probs(learner, shots=3)
    assert torch.equal(first, log_probs(learner))


def test_adapt_batch_equals_the_loop(learner: Learner) -> None:
    tasks = [
        (problems.support(2), problems.labels()),
        (problems.support(3, problems.NAMES[::-1]), problems.labels(problems.NAMES[::-1])),
    ]
    texts = [e.fields for e in problems.query()]
    for batched, (support, labels) in zip(learner.adapt_batch(tasks), tasks, strict=True):
        loop = learner.adapt(support, labels)
        torch.testing.assert_close(
            batched.log_probs(texts), loop.log_probs(texts), atol=1e-4, rtol=0
        )
        assert batched.trained_parameters == loop.trained_parameters


def test_label_order_permutes_columns_and_nothing_else(learner: Learner) -> None:
    names = (problems.NAMES[2], problems.NAMES[0], problems.NAMES[1])
    support = problems.support(2)
    texts = [e.fields for e in problems.query()]
    straight = learner.adapt(support, problems.labels()).log_probs(texts)
    turned = learner.adapt(support, problems.labels(names)).log_probs(texts)
    columns = [names.index(name) for name in problems.NAMES]
    torch.testing.assert_close(turned[:, columns], straight, atol=1e-4, rtol=0)


def test_an_empty_support_set_still_gives_a_distribution(learner: Learner) -> None:
    out = log_probs(learner, shots=0)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ORDER_FREE)
def test_support_order_changes_nothing(method: str) -> None:
    learner = make(method, {}, tiny.backbone())
    texts = [e.fields for e in problems.query()]
    support = problems.support(2)
    one = learner.adapt(support, problems.labels()).log_probs(texts)
    other = learner.adapt(support[::-1], problems.labels()).log_probs(texts)
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_meta_learners_are_told_from_the_others() -> None:
    for method in METHODS:
        assert is_meta_learner(method) == isinstance(make(method, {}, tiny.backbone()), MetaLearner)


def test_an_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(IclError, match="Did you mean 'prototypes'"):
        validate("prototype", {})


def test_an_unknown_parameter_suggests_the_nearest() -> None:
    with pytest.raises(IclError, match=r"'inner_step'.*Did you mean 'inner_steps'"):
        validate("fomaml", {"inner_step": 3})


def test_a_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(IclError, match="'inner_rate'"):
        validate("fomaml", {"inner_rate": -1})

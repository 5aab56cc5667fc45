from __future__ import annotations

import pytest
import torch

from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.training.gradient_check import check_gradients, kernel
from tests import tiny, tiny_encoders
from tests.learners import problems

EPISODES = [problems.episode(0), problems.episode(1)]


def learner(method: str, backbone: Backbone) -> LoraMetaLearner:
    encoder = isinstance(backbone, tiny_encoders.Encoder)
    made = make(
        method, {"inner_steps": 2, **({"targets": ("query",)} if encoder else {})}, backbone
    )
    assert isinstance(made, LoraMetaLearner)
    return made


@pytest.mark.parametrize(
    "method", ["maml", "fomaml", "meta-sgd", "anil", "protomaml", "imaml", "multitask-lora"]
)
def test_right_gradients_pass_and_the_model_is_left_as_it_was(method: str) -> None:
    backbone = tiny.backbone("gemma3-hybrid")
    made = learner(method, backbone)
    before = {n: (v.dtype, v.clone()) for n, v in backbone.model.state_dict().items()}
    checks = {check.name: check for check in check_gradients(made, EPISODES)}
    assert all(check.passed for check in checks.values()), checks
    wanted = {"precision (float32)", "batching"}
    if method in ("maml", "meta-sgd", "anil", "protomaml"):
        wanted |= {"second order", "checkpointing", "differences"}
    assert wanted <= checks.keys()
    for name, value in backbone.model.state_dict().items():
        assert value.dtype == before[name][0]
        assert torch.equal(value, before[name][1])


def test_encoders_are_checked_too() -> None:
    backbone = tiny_encoders.encoder()
    assert all(c.passed for c in check_gradients(learner("maml", backbone), EPISODES))
    assert "SDPA" in kernel(backbone)


def test_half_precision_is_measured_against_float64() -> None:
    backbone = tiny.backbone()
    backbone.model.to(torch.bfloat16)
    checks = {c.name: c for c in check_gradients(learner("maml", backbone), EPISODES)}
    half = checks["precision (bfloat16)"].error
    assert half is not None
    assert half > 1e-3
    assert checks["second order"].passed


def test_a_wrong_second_derivative_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that loses the curvature is what checkpointing went wrong looks like."""
    from icl.learners.gradient.algorithms import unroll

    plain = unroll.hessian_vector
    monkeypatch.setattr(
        unroll, "hessian_vector", lambda *a: {n: 0 * v for n, v in plain(*a).items()}
    )
    checks = {c.name: c for c in check_gradients(learner("maml", tiny.backbone()), EPISODES)}
    assert not checks["second order"].passed
    assert not checks["checkpointing"].passed

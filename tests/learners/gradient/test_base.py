"""LoRA fine-tuning and FOMAML against loops written without trunk, packing or task axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from icl.episodes import Episode
from icl.learners.gradient.algorithms import spread
from icl.learners.gradient.base import WordLoss
from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.backbone import Backbone
from icl.models.scoring.scorer import make_plan, score
from icl.tasks.task import Example
from tests import tiny
from tests.learners import problems

EPISODES = [problems.episode(0), problems.episode(1), problems.episode(2, shots=3)]


def plain_loss(
    backbone: Backbone, examples: tuple[Example, ...], e: Episode, factors: dict[str, Tensor]
) -> Tensor:
    """One task's loss: one exact score a prompt through all layers."""
    losses = []
    for x in examples:
        plan = make_plan(
            backbone, [e.labels.template.render(x.fields)], [f" {w}" for w in e.labels.words]
        )
        scores = score(backbone, plan, adapter=Adapter(factors, 2.0))
        losses.append(-scores.log_softmax(1)[0, e.labels.index(x.label)])
    return torch.stack(losses).mean()


def moved_learner(**params: object) -> LoraMetaLearner:
    """A FOMAML whose B factors are not zero, so that every gradient is."""
    learner = make("fomaml", params, tiny.backbone())
    assert isinstance(learner, LoraMetaLearner)
    generator = torch.Generator().manual_seed(3)
    for value in learner.trainable_parameters().values():
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    return learner


@pytest.mark.parametrize("top_layers", [None, 1])
def test_the_meta_gradient_is_the_query_gradient_at_the_adapted_factors(
    top_layers: int | None,
) -> None:
    learner = moved_learner(inner_steps=2, inner_rate=0.3, top_layers=top_layers)
    start = learner.trainable_parameters()
    loss, _ = learner.meta_loss(EPISODES)
    got = torch.autograd.grad(loss, list(start.values()))

    backbone = tiny.backbone()
    per_task = []
    total = 0.0
    for e in EPISODES:
        factors = {n: v.detach().clone().requires_grad_() for n, v in start.items()}
        for _ in range(2):
            inner = torch.autograd.grad(
                plain_loss(backbone, e.support, e, factors), list(factors.values())
            )
            factors = {
                n: (v - 0.3 * g).detach().requires_grad_()
                for (n, v), g in zip(factors.items(), inner, strict=True)
            }
        outer = plain_loss(backbone, e.query, e, factors)
        total += float(outer.detach()) / len(EPISODES)
        per_task.append(torch.autograd.grad(outer, list(factors.values())))
    expected = [torch.stack(parts).mean(0) for parts in zip(*per_task, strict=True)]
    assert float(loss.detach()) == pytest.approx(total, abs=1e-5)
    assert max(float(g.abs().max()) for g in expected) > 1e-3
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_no_inner_steps_give_the_plain_query_loss_and_gradient() -> None:
    learner = moved_learner(inner_steps=0)
    start = learner.trainable_parameters()
    loss, _ = learner.meta_loss(EPISODES)
    plain = torch.stack(
        [plain_loss(tiny.backbone(), e.query, e, dict(start)) for e in EPISODES]
    ).mean()
    torch.testing.assert_close(loss, plain, atol=1e-5, rtol=0)
    for a, b in zip(
        torch.autograd.grad(loss, list(start.values())),
        torch.autograd.grad(plain, list(start.values())),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_gradients_agree_with_finite_differences_in_float64() -> None:
    backbone = tiny.backbone()
    backbone.model.double()
    factors = {
        name: value.double() + 0.1
        for name, value in init_lora(backbone, LoraSpec(rank=2, targets=("q_proj",)), 0).items()
    }
    losses = WordLoss(backbone, [(EPISODES[0].support, EPISODES[0].labels)], factors, 2.0)
    leaves = {n: v.clone().requires_grad_() for n, v in spread(factors, 1).items()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return losses(values).sum()

    gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(v.shape, generator=generator).double() for v in leaves.values()]
    analytic = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True))
    small = 1e-3  # scores are summed in float32, so the step must not be smaller
    ends = [
        float(
            loss(
                {
                    n: (v + sign * small * s).detach()
                    for (n, v), s in zip(leaves.items(), steps, strict=True)
                }
            )
        )
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * small) == pytest.approx(analytic, rel=1e-2)


def test_with_b_zero_the_first_inner_step_moves_b_only() -> None:
    backbone = tiny.backbone()
    start = init_lora(backbone, LoraSpec(targets=("q_proj",)), 0)
    losses = WordLoss(backbone, [(EPISODES[0].support, EPISODES[0].labels)], start, 2.0)
    leaves = {n: v.clone().requires_grad_() for n, v in spread(start, 1).items()}
    gradients = torch.autograd.grad(losses(leaves).sum(), list(leaves.values()))
    for name, gradient in zip(leaves, gradients, strict=True):
        assert bool(gradient.any()) == name.endswith("lora_B")


def test_fine_tuning_lowers_the_support_loss() -> None:
    backbone = tiny.backbone()
    support, labels = problems.support(3), problems.labels()
    texts = [e.fields for e in support]
    right = torch.tensor([labels.index(e.label) for e in support])
    before, after = (
        make("lora", {"steps": steps, "learning_rate": 0.02}, backbone)
        .adapt(support, labels)
        .log_probs(texts)
        .gather(1, right[:, None])
        .mean()
        for steps in (0, 20)
    )
    assert after > before + 0.2


def test_fomaml_takes_the_steps_that_its_parameters_say() -> None:
    learner = moved_learner(inner_steps=1, inner_rate=0.5)
    e = EPISODES[0]
    start = {n: v.detach().requires_grad_() for n, v in learner.trainable_parameters().items()}
    gradients = torch.autograd.grad(
        plain_loss(tiny.backbone(), e.support, e, start), list(start.values())
    )
    stepped = {n: v - 0.5 * g for (n, v), g in zip(start.items(), gradients, strict=True)}
    plan = make_plan(
        tiny.backbone(),
        [e.labels.template.render(q.fields) for q in e.query],
        [f" {w}" for w in e.labels.words],
    )
    expected = score(tiny.backbone(), plan, adapter=Adapter(stepped, 2.0)).log_softmax(1)
    out = learner.adapt(e.support, e.labels).log_probs([q.fields for q in e.query])
    torch.testing.assert_close(out, expected.detach(), atol=1e-5, rtol=0)

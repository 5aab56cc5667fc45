"""Meta-learners over LoRA against plain loops, differences and each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from icl.episodes import Episode
from icl.errors import IclError
from icl.learners.base import LOG_ZERO
from icl.learners.embedding.prototypes import Prototypes
from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.learners.gradient.states import compile_states, pooled
from icl.learners.gradient.task_head import word_rows
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.scoring.scorer import make_plan, score
from icl.tasks.task import Example
from tests import tiny, tiny_encoders
from tests.learners import problems

EPISODES = [problems.episode(0), problems.episode(1, shots=3)]
GRADIENT = ["fomaml", "maml", "maml++", "meta-sgd", "reptile", "anil", "imaml", "protomaml"]


def moved(method: str, backbone: Backbone, **params: Any) -> LoraMetaLearner:
    """A learner in float64 whose B factors are not zero, so that every gradient counts."""
    if isinstance(backbone, tiny_encoders.Encoder):
        params |= {"targets": ("query",)}
    backbone.model.double()
    learner = make(method, {"rank": 2, "alpha": 2, **params}, backbone)
    assert isinstance(learner, LoraMetaLearner)
    for group in (learner.start, learner.learned):
        for name, value in group.items():
            group[name] = value.detach().double().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    for value in learner.start.values():
        value.data += 0.2 * torch.randn(value.shape, generator=generator)
    learner.at_step(9, 10)
    return learner


def words_loss(
    backbone: Backbone, e: Episode, examples: tuple[Example, ...], factors: dict[str, Tensor]
) -> Tensor:
    """One task's loss through all layers, without trunk, packing of tasks or task axis."""
    template = e.labels.template
    plan = make_plan(
        backbone, [template.render(x.fields) for x in examples], [f" {w}" for w in e.labels.words]
    )
    scores = score(backbone, plan, adapter=Adapter(factors, 1.0)).log_softmax(1)
    right = torch.tensor([e.labels.index(x.label) for x in examples])
    return -scores.gather(1, right[:, None]).mean()


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("top_layers", [None, 1])
@pytest.mark.parametrize(
    ("architecture", "tolerance"),
    [("gpt2", 1e-9), ("gemma3-hybrid", 1e-4)],  # Gemma's norms are in float32 whatever the dtype
)
def test_maml_equals_one_graph_over_the_plain_inner_loop(
    architecture: str, tolerance: float, top_layers: int | None, checkpoint: bool
) -> None:
    backbone = tiny.backbone(architecture)
    learner = moved(
        "maml", backbone, inner_steps=2, inner_rate=0.3, top_layers=top_layers,
        checkpoint=checkpoint,
    )  # fmt: skip
    loss, _ = learner.meta_loss(EPISODES)
    got = torch.autograd.grad(loss, list(learner.start.values()))
    leaves = {n: v.detach().clone().requires_grad_() for n, v in learner.start.items()}
    total = torch.zeros((), dtype=torch.float64)
    for e in EPISODES:
        factors = dict(leaves)
        for _ in range(2):
            inner = torch.autograd.grad(
                words_loss(backbone, e, e.support, factors),
                list(factors.values()),
                create_graph=True,
            )
            factors = {n: v - 0.3 * g for (n, v), g in zip(factors.items(), inner, strict=True)}
        total = total + words_loss(backbone, e, e.query, factors) / 2
    expected = torch.autograd.grad(total, list(leaves.values()))
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=tolerance)
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < tolerance


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("method", ["maml", "meta-sgd", "maml++", "anil", "protomaml"])
def test_the_meta_gradient_agrees_with_differences_of_the_adapted_loss(
    method: str, kind: str
) -> None:
    """In float64: adapt, then the query loss, as a function of every meta-parameter."""
    backbone = tiny.backbone("gpt2") if kind == "decoder" else tiny_encoders.encoder()
    learner = moved(method, backbone, inner_steps=2, inner_rate=0.01)
    sides = [[(e.support, e.labels) for e in EPISODES], [(e.query, e.labels) for e in EPISODES]]
    problem = learner.problem(*sides)
    start, learned = learner.start, learner.learned
    step = learner.algorithm.meta_step(start, learned, problem, 1.0)
    generator = torch.Generator().manual_seed(0)
    along = {
        n: torch.randn(v.shape, generator=generator, dtype=torch.float64)
        * (0.1 if n.startswith("rate/") else 1.0)
        for n, v in {**start, **learned}.items()
    }
    analytic = sum(float((step.gradients[n] * v).sum()) for n, v in along.items())

    def at(size: float) -> float:
        there = {n: (v + size * along[n]).detach() for n, v in {**start, **learned}.items()}
        found = learner.algorithm.meta_step(
            {n: there[n] for n in start}, {n: there[n] for n in learned}, problem, 1.0
        )
        return float(found.loss)

    numeric = (at(1e-6) - at(-1e-6)) / 2e-6
    assert abs(analytic) > 1e-5
    assert numeric == pytest.approx(analytic, rel=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_protomaml_without_steps_is_a_prototypical_network(kind: str) -> None:
    backbone = tiny.backbone("gpt2") if kind == "decoder" else tiny_encoders.encoder()
    params = {"targets": ("query",)} if kind == "encoder" else {}
    learner = make("protomaml", {"inner_steps": 0, **params}, backbone)  # B = 0: the base model
    peer = Prototypes(
        backbone,
        Prototypes.Params(
            layer=-1, pooling=None, prompted=kind == "decoder", normalise=True, temperature=0.1
        ),
    )
    e = EPISODES[1]
    texts = [q.fields for q in e.query]
    ours, theirs = (x.adapt(e.support, e.labels).log_probs(texts) for x in (learner, peer))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_anil_without_steps_scores_the_words_first_tokens() -> None:
    backbone = tiny.backbone("gpt2")
    learner = moved("anil", backbone, inner_steps=0)
    e = EPISODES[0]
    texts = [q.fields for q in e.query]
    factors = {n: v.detach()[None] for n, v in learner.start.items()}
    batch = compile_states(backbone, [(e.query, e.labels)], 0)
    with torch.no_grad():
        states = pooled(backbone, batch, Adapter(factors, learner.scale))
    expected = (states @ word_rows(backbone, e.labels).to(states).T).log_softmax(1)
    got = learner.adapt(e.support, e.labels).log_probs(texts)
    torch.testing.assert_close(got, expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("method", GRADIENT)
def test_a_meta_batch_equals_the_mean_over_its_tasks_whatever_their_ways(
    method: str, kind: str
) -> None:
    backbone = tiny.backbone("gpt2") if kind == "decoder" else tiny_encoders.encoder()
    learner = moved(method, backbone, inner_rate=0.01)
    two = problems.NAMES[:2]
    few = Episode(
        "kind", problems.labels(two), tuple(problems.support(2, two)),
        tuple(problems.query(two)), 0, 0, 2, "train", "within", "xx", "xx",
    )  # fmt: skip
    batch = [*EPISODES, few]
    params = list(learner.trainable_parameters().values())

    def gradient(episodes: list[Episode]) -> list[Tensor]:
        return list(torch.autograd.grad(learner.meta_loss(episodes)[0], params))

    parts = [gradient([e]) for e in batch]
    for got, *own in zip(gradient(batch), *parts, strict=True):
        mean = torch.stack(own).mean(0)
        assert float((got - mean).norm()) <= 1e-8 * max(float(mean.norm()), 1.0)
    assert max(float(g.abs().max()) for g in parts[0]) > 1e-4


@pytest.mark.parametrize("method", GRADIENT)
def test_encoders_learn_the_support_set_whatever_its_ways(method: str) -> None:
    learner = make(method, {"targets": ("query",), "inner_rate": 0.3}, tiny_encoders.encoder())
    for names in (problems.NAMES, problems.NAMES[:2]):
        support, labels = problems.support(3, names), problems.labels(names)
        texts = [e.fields for e in support]
        right = torch.tensor([[labels.index(e.label)] for e in support])
        out = learner.adapt(support, labels).log_probs(texts)
        assert out.gather(1, right).mean() > out.gather(1, (right + 1) % len(names)).mean()


def test_kept_trunks_change_no_prediction() -> None:
    kept, plain = tiny.backbone(), tiny.backbone()
    plain.trunks.budget = 0
    one, other = (moved("fomaml", b, top_layers=1) for b in (kept, plain))
    for e in (*EPISODES, *EPISODES):
        texts = [q.fields for q in e.query]
        got, expected = (x.adapt(e.support, e.labels).log_probs(texts) for x in (one, other))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert kept.trunks.used > plain.trunks.used == 0
    assert kept.meter.computed_tokens < plain.meter.computed_tokens  # what was kept was found again


def test_kept_trunks_stay_within_their_budget() -> None:
    backbone = tiny.backbone()
    backbone.trunks.budget = 20_000
    learner = moved("fomaml", backbone, top_layers=1)
    for e in EPISODES:
        learner.adapt(e.support, e.labels)
    assert 0 < backbone.trunks.used <= 20_000


def test_plain_training_descends_the_mean_loss_of_all_examples_of_the_same_episodes() -> None:
    backbone = tiny.backbone("gpt2")
    learner = moved("multitask-lora", backbone, inner_steps=2, inner_rate=0.3)
    loss, _ = learner.meta_loss(EPISODES)
    got = torch.autograd.grad(loss, list(learner.start.values()))
    leaves = {n: v.detach().clone().requires_grad_() for n, v in learner.start.items()}
    total = torch.zeros((), dtype=torch.float64)
    for e in EPISODES:
        total = total + words_loss(backbone, e, (*e.support, *e.query), leaves) / len(EPISODES)
    expected = torch.autograd.grad(total, list(leaves.values()))
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=1e-9)
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-9


@pytest.mark.parametrize("steps", [0, 2])
def test_plain_training_adapts_as_fomaml_does_from_the_same_start(steps: int) -> None:
    """Without a step it is what plain training has made of the model."""
    one, other = (
        moved(method, tiny.backbone("gpt2"), inner_steps=steps, inner_rate=0.3)
        for method in ("multitask-lora", "fomaml")
    )
    e = EPISODES[0]
    texts = [q.fields for q in e.query]
    got, expected = (x.adapt(e.support, e.labels).log_probs(texts) for x in (one, other))
    torch.testing.assert_close(got, expected, atol=0, rtol=0)
    plan = make_plan(
        one.backbone,
        [e.labels.template.render(t) for t in texts],
        [f" {w}" for w in e.labels.words],
    )
    start = {n: v.detach() for n, v in one.start.items()}
    plain = score(one.backbone, plan, adapter=Adapter(start, 1.0)).log_softmax(1).float()
    same = torch.allclose(got.double(), plain.double(), atol=1e-5)
    assert same == (steps == 0)


def test_an_encoders_start_is_not_fine_tuned_in_vain() -> None:
    learner = make("fomaml", {"targets": ("query",)}, tiny_encoders.encoder())
    assert isinstance(learner, LoraMetaLearner)
    with pytest.raises(IclError, match=r"plain training moves nothing; drop `training\.fine_tune`"):
        learner.fine_tuning_loss(EPISODES)
    assert (
        make("protomaml", {"targets": ("query",)}, tiny_encoders.encoder())
        .fine_tuning_loss(  # type: ignore[attr-defined]
            EPISODES
        )[0]
        .requires_grad
    )
    with pytest.raises(IclError, match=r"'multitask-lora' needs a model that scores .* an encoder"):
        make("multitask-lora", {}, tiny_encoders.encoder())


@pytest.mark.parametrize(
    ("method", "kind"), [("protomaml", "decoder"), ("protomaml", "encoder"), ("fomaml", "encoder")]
)
def test_a_label_without_support_is_ruled_out_where_only_support_says_what_it_is(
    method: str, kind: str
) -> None:
    """As by prototypes: the others' probabilities are those of the task without it."""
    backbone = tiny.backbone("gpt2") if kind == "decoder" else tiny_encoders.encoder()
    params = {"targets": ("query",)} if kind == "encoder" else {}
    learner = make(method, {"inner_rate": 0.1, **params}, backbone)
    names = (problems.NAMES[0], problems.NAMES[2])
    texts = [q.fields for q in problems.query()]
    support = problems.support(2, names)
    got = learner.adapt(support, problems.labels()).log_probs(texts)
    expected = learner.adapt(support, problems.labels(names)).log_probs(texts)
    assert got[:, 1].tolist() == [LOG_ZERO] * len(texts)
    torch.testing.assert_close(got[:, ::2], expected, atol=1e-5, rtol=0)
    alone = learner.adapt(problems.support(2, names[:1]), problems.labels()).log_probs(texts)
    torch.testing.assert_close(alone.exp(), torch.full_like(alone, 1 / 3))

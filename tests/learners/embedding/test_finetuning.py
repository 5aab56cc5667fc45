"""Fine-tuned heads: trained on the support alone, stopped by support held out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from icl.errors import IclError
from icl.learners.embedding.finetuning import train
from icl.learners.embedding.setfit import draw_pairs
from icl.learners.registry import make
from tests import tiny, tiny_encoders
from tests.learners import problems

TEXTS = [e.fields for e in problems.query()]


def test_training_stops_where_held_out_support_is_best_and_then_uses_all_of_it() -> None:
    """One number learns to be the mean of its rows' goals, by steps of a known size."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 6, generator=generator)
    wanted = torch.arange(20) % 2
    wanted[:4] = 1 - wanted[:4]  # noise: too many steps hurt
    seen: list[tuple[int, ...]] = []

    def forward(own: dict[str, Tensor], rows: list[int]) -> Tensor:
        seen.append(tuple(rows))
        return vectors[rows] @ own["w"]

    start = {"w": torch.zeros(6, 2)}
    found, steps = train(start, forward, wanted, 2, steps=300, learning_rate=0.1, patience=10)  # type: ignore[arg-type]
    held = next(rows for rows in seen if len(rows) < 20)
    assert sorted(set(wanted[list(held)].tolist())) == [0, 1]
    searched = [rows for rows in seen if rows != tuple(range(20))]
    assert all(set(rows) == set(held) or not set(rows) & set(held) for rows in searched)
    assert 0 < steps < 300
    assert seen.count(tuple(range(20))) == steps
    assert not start["w"].any() and found["w"].any()

    # the same number of Adam steps by hand
    own = torch.zeros(6, 2, requires_grad=True)
    optimiser = torch.optim.Adam([own], lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(vectors @ own, wanted).backward()
        optimiser.step()
    torch.testing.assert_close(found["w"], own.detach())


def test_hard_tasks_get_a_head_that_has_learnt_something() -> None:
    """Where noise makes every step raise the held-out loss: one step, not a head of zeros."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.arange(10) % 5
    right = []
    taken = []
    for _ in range(40):
        means = 0.2 * torch.randn(5, 16, generator=generator)
        support, query = (
            means[wanted] + torch.randn(10, 16, generator=generator) for _ in range(2)
        )
        found, steps = train(
            {"w": torch.zeros(16, 5)},
            lambda own, rows, x=support: x[rows] @ own["w"],  # type: ignore[misc]
            wanted,
            5,
            steps=100,
            learning_rate=0.05,
            patience=10,
        )
        taken.append(steps)
        right.append(float(((query @ found["w"]).argmax(1) == wanted).float().mean()))
        assert found["w"].any()
    assert taken.count(1) > 10  # the search finds nothing better than the least there is
    assert sum(right) / len(right) > 0.22  # chance is a fifth


def test_with_one_example_a_class_training_stops_when_the_support_is_learnt() -> None:
    found, steps = train(
        {"w": torch.zeros(3, 3)},
        lambda own, rows: torch.eye(3)[rows] @ own["w"],
        torch.arange(3),
        3,
        steps=1000,
        learning_rate=0.5,
        patience=5,
    )
    assert steps < 100
    loss = torch.nn.functional.cross_entropy(found["w"], torch.arange(3))
    assert 0.005 < float(loss) < 0.01


@pytest.mark.parametrize("method", ["head-finetuning", "lora-head"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_support_is_learnt(method: str, causal: bool) -> None:
    backbone = tiny.backbone() if causal else tiny_encoders.encoder()
    params = {"steps": 60, "learning_rate": 0.05} if method == "head-finetuning" else {}
    if method == "lora-head" and not causal:
        params = {"targets": ["query"]}  # type: ignore[dict-item]
    support = problems.support(1)
    learner = make(method, params, backbone)
    out = learner.adapt(support, problems.labels()).log_probs([e.fields for e in support])
    assert out.argmax(1).tolist() == [0, 1, 2]


def test_lora_moves_beside_the_head() -> None:
    encoder = tiny_encoders.encoder()
    learner = make("lora-head", {"targets": ["query"], "steps": 5, "rank": 2}, encoder)
    predictor = learner.adapt(problems.support(1), problems.labels())
    assert predictor.trained_parameters == 3 * 2 * (2 * 32) + 32 * 3 + 3
    frozen = make("head-finetuning", {"steps": 5}, encoder)
    plain = frozen.adapt(problems.support(1), problems.labels()).log_probs(TEXTS)
    assert not torch.allclose(predictor.log_probs(TEXTS), plain, atol=1e-3)


def test_pairs_join_and_part_classes_evenly() -> None:
    wanted = torch.tensor([0, 0, 1, 1, 2, 2])
    pairs = draw_pairs(wanted, 4, seed=0)
    assert len(pairs) == 4 * 6 * 2
    assert sum(bool(wanted[a] == wanted[b]) for a, b in pairs) == 24
    assert all(a != b for a, b in pairs)
    assert pairs == draw_pairs(wanted, 4, seed=0) != draw_pairs(wanted, 4, seed=1)
    assert len(draw_pairs(torch.tensor([0, 1]), 3, 0)) == 6  # single examples have no like


def test_setfit_refuses_a_causal_model() -> None:
    with pytest.raises(
        IclError,
        match="'setfit' needs a model that sentence-transformers can tune",
    ):
        make("setfit", {}, tiny.backbone())


def test_setfit_draws_a_classes_sentences_together(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from icl.models.loading.load import load_backbone

    backbone = load_backbone(str(tiny_encoders.save(tmp_path)), device="cpu")
    learner = make("setfit", {"pairs": 8, "learning_rate": 1e-3}, backbone)
    support, labels = problems.support(3), problems.labels()
    predictor = learner.adapt(support, labels)
    out = predictor.log_probs([e.fields for e in support])
    assert out.argmax(1).tolist() == [0, 1, 2] * 3
    again = learner.adapt(support[::-1], labels).log_probs(TEXTS)
    torch.testing.assert_close(again, predictor.log_probs(TEXTS), atol=1e-4, rtol=0)
    alone = torch.cat([predictor.log_probs([text]) for text in TEXTS])
    torch.testing.assert_close(alone, predictor.log_probs(TEXTS), atol=1e-4, rtol=0)

"""MetaICL against its equation, and through the trainer that FOMAML uses."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import torch

from icl.episodes import EpisodeSampler
from icl.learners.base import MetaLearner
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.scoring.scorer import make_plan, score
from icl.prompting.channel import split
from icl.prompting.seeds import shuffled
from icl.tasks.task import Labels
from icl.training import TrainingConfig
from icl.training.trainer import MetaTrainer, TrainingSummary
from tests import tiny
from tests.episodes.toy_families import regular_family
from tests.learners import problems

TEXTS = [e.fields for e in problems.query()]
CONFIG = TrainingConfig(
    split="test", steps=6, meta_batch=2, shots=2, queries=4, learning_rate=0.02, checkpoint_every=2
)


@lru_cache
def backbone() -> Backbone:
    return tiny.backbone()


def moved(scoring: str, **params: object) -> MetaLearner:
    """A learner whose B factors are not zero, so that the adapter does something."""
    learner = make("metaicl", {"scoring": scoring, "rank": 2, **params}, backbone())
    assert isinstance(learner, MetaLearner)
    generator = torch.Generator().manual_seed(1)
    for value in learner.trainable_parameters().values():
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    return learner


@pytest.mark.parametrize("scoring", ["direct", "channel"])
@pytest.mark.parametrize("top_layers", [None, 1])
def test_the_loss_is_the_papers_with_its_gradient(scoring: str, top_layers: int | None) -> None:
    learner = moved(scoring, top_layers=top_layers)
    episodes = [problems.episode(0), problems.episode(1, shots=1)]
    loss, metrics = learner.meta_loss(episodes)
    names = learner.trainable_parameters()
    gradients = torch.autograd.grad(loss, list(names.values()))

    losses, totals = [], []
    for episode in episodes:
        shown = shuffled(episode.support, 0, episode.fingerprint)
        for query in episode.query:
            if scoring == "direct":
                demos = "".join(f"Word: {e.fields['text']}\nKind: {e.label}\n\n" for e in shown)
                prompt = f"{demos}Word: {query.fields['text']}\nKind:"
                target = f" {query.label}"
            else:
                demos = "".join(f"Kind: {e.label}\nWord: {e.fields['text']}\n\n" for e in shown)
                prompt, target = f"{demos}Kind: {query.label}\n", f"Word: {query.fields['text']}"
            plan = make_plan(backbone(), [prompt], [target])
            total = score(backbone(), plan, adapter=Adapter(names, 16 / 2))[0, 0]
            losses.append(-total / len(plan.target))
            totals.append(total)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-5)
    wanted = torch.autograd.grad(expected, list(names.values()))
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)
    assert metrics["target_log_prob"] == pytest.approx(
        float(torch.stack(totals).detach().mean()), abs=1e-3
    )


@pytest.mark.parametrize("scoring", ["direct", "channel"])
def test_untrained_it_is_in_context_learning(scoring: str) -> None:
    support, labels = problems.support(2), problems.labels()
    ours = make("metaicl", {"scoring": scoring}, backbone()).adapt(support, labels)
    same = {"scoring": scoring, "normalise": "token"}
    plain = make("in-context", same, backbone()).adapt(support, labels)
    torch.testing.assert_close(ours.log_probs(TEXTS), plain.log_probs(TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scoring", ["direct", "channel"])
def test_a_label_is_chosen_by_the_mean_over_its_targets_tokens(scoring: str) -> None:
    words = ("May", "a very long name of a weekday", "an organ")
    labels = Labels(problems.NAMES, words, problems.TEMPLATE)
    shown, named = problems.support(1), dict(zip(problems.NAMES, words, strict=True))
    pairs = [(e.fields, named[e.label]) for e in shown]
    turned = split(problems.TEMPLATE)
    means = []
    for text in TEXTS:
        for word in words:
            if scoring == "direct":
                prompt, target = problems.TEMPLATE.prompt(pairs, text), f" {word}"
            else:
                prompt, target = turned.prompt(pairs, word), turned.input(text)
            model, tokenizer = backbone().model, backbone().tokenizer
            ids, start = tokenizer(prompt + target)["input_ids"], tokenizer(prompt)["input_ids"]
            begin = next((i for i, t in enumerate(start) if ids[i] != t), len(start))
            with torch.no_grad():
                logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            means.append(
                sum(logs[i - 1, ids[i]] for i in range(begin, len(ids))) / (len(ids) - begin)
            )
    expected = torch.tensor(means).reshape(len(TEXTS), len(words)).log_softmax(1)
    found = make("metaicl", {"scoring": scoring}, backbone()).adapt(shown, labels).log_probs(TEXTS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    summed = make("metaicl", {"scoring": scoring, "normalise": "sum"}, backbone())
    other = summed.adapt(shown, labels).log_probs(TEXTS)
    if scoring == "direct":  # of a short and a long word, the sum takes the short one
        assert (other.argmax(1) != found.argmax(1)).any()
    else:  # the inputs are the same for all labels, but for a token across the boundary
        assert not torch.allclose(other, found)


def test_trained_factors_change_what_is_predicted_and_are_counted() -> None:
    learner = moved("direct")
    predictor = learner.adapt(problems.support(2), problems.labels())
    plain = make("in-context", {}, backbone()).adapt(problems.support(2), problems.labels())
    assert not torch.allclose(predictor.log_probs(TEXTS), plain.log_probs(TEXTS), atol=1e-2)
    total = sum(value.numel() for value in learner.trainable_parameters().values())
    assert predictor.trained_parameters == total > 0


class Killed(Exception):
    pass


def train(folder: Path, scoring: str, steps: int = 6, kill_at: int = 0) -> TrainingSummary:
    learner = make("metaicl", {"scoring": scoring, "rank": 2}, backbone())
    assert isinstance(learner, MetaLearner)
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=[2], queries=4)

    def progress(step: int, of: int, loss: float) -> None:
        if step == kill_at:
            raise Killed

    config = CONFIG.model_copy(update={"steps": steps})
    return MetaTrainer(learner, backbone(), sampler, config, folder, "a").fit(progress)


@pytest.mark.parametrize("scoring", ["direct", "channel"])
def test_training_lowers_the_loss(tmp_path: Path, scoring: str) -> None:
    summary = train(tmp_path, scoring, steps=16)
    assert summary.last_loss < summary.first_loss - 0.3


def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "channel")
    with pytest.raises(Killed):
        train(tmp_path / "cut", "channel", kill_at=3)
    assert train(tmp_path / "cut", "channel").digest == whole.digest

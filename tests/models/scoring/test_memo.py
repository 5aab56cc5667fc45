"""Scores that come again: the same numbers, the same cost, and nobody else's."""

from __future__ import annotations

import pytest
import torch

from icl.episodes import EpisodeSampler
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.scoring.memo import ScoreMemo
from icl.models.scoring.scorer import label_scores, remembered_scores
from tests import tiny
from tests.episodes.toy_families import regular_family

PROMPTS, ANSWERS = ["Word: May\nKind:", "Word: Montag\nKind:"], [" month", " day"]


@pytest.fixture
def backbone() -> Backbone:
    return tiny.backbone("llama")


def spent(backbone: Backbone, prompts: list[str], relative: bool = False) -> tuple[float, float]:
    """Return the tokens computed and shared by one question, and drop its scores."""
    meter = backbone.meter
    meter.begin()
    before = meter.computed_tokens, meter.shared.tokens
    remembered_scores(backbone, prompts, ANSWERS, relative=relative)
    return meter.computed_tokens - before[0], meter.shared.tokens - before[1]


def test_what_comes_again_is_the_same_to_the_bit_and_is_not_computed(backbone: Backbone) -> None:
    plain = label_scores(backbone, PROMPTS, ANSWERS)
    first = remembered_scores(backbone, PROMPTS, ANSWERS)
    assert torch.equal(first, plain)
    first.zero_()  # the caller's own
    computed = backbone.meter.computed_tokens
    assert torch.equal(remembered_scores(backbone, PROMPTS, ANSWERS), plain)
    assert backbone.meter.computed_tokens == computed


def test_the_charge_depends_on_nothing_that_came_before(backbone: Backbone) -> None:
    computed, shared = spent(backbone, PROMPTS)
    assert computed > 0 == shared
    assert spent(backbone, PROMPTS) == (0, computed)
    prompt_tokens = backbone.meter.prompt_tokens
    assert spent(backbone, PROMPTS[:1])[1] == 0, "another question"
    assert backbone.meter.prompt_tokens > prompt_tokens
    assert spent(backbone, PROMPTS, relative=True)[1] == 0
    meter = backbone.meter  # within one piece of work it is charged once, as by computing it
    meter.begin()
    shared = meter.shared.tokens
    for _ in range(2):
        remembered_scores(backbone, PROMPTS, ANSWERS)
    assert meter.shared.tokens - shared == computed


def test_an_adapter_asks_the_model_itself(backbone: Backbone) -> None:
    plain = remembered_scores(backbone, PROMPTS, ANSWERS)
    name = f"{backbone.layer_names[0]}.self_attn.q_proj"
    weight = backbone.model.get_submodule(name).weight
    rows, columns = weight.shape
    factors = {f"{name}.lora_A": torch.ones(2, columns), f"{name}.lora_B": torch.ones(rows, 2)}
    adapter = Adapter(factors, 1.0)
    moved = remembered_scores(backbone, PROMPTS, ANSWERS, adapter=adapter)
    assert not torch.allclose(moved, plain)
    assert torch.equal(moved, label_scores(backbone, PROMPTS, ANSWERS, adapter=adapter))


def test_a_model_that_was_changed_is_asked_again(backbone: Backbone) -> None:
    plain = remembered_scores(backbone, PROMPTS, ANSWERS)
    with torch.no_grad():
        next(backbone.model.parameters()).mul_(1.5)
    backbone.look_again()
    changed = remembered_scores(backbone, PROMPTS, ANSWERS)
    assert not torch.allclose(changed, plain)
    assert torch.equal(changed, label_scores(backbone, PROMPTS, ANSWERS))


def test_the_oldest_scores_go_first_and_a_budget_of_nothing_keeps_nothing(
    backbone: Backbone,
) -> None:
    one = label_scores(backbone, PROMPTS, ANSWERS).nbytes
    backbone.scores = ScoreMemo(2 * one)
    questions = [[f"{p}{i}" for p in PROMPTS] for i in range(3)]
    for question in questions:
        spent(backbone, question)
    assert backbone.scores.used == 2 * one
    assert spent(backbone, questions[2])[0] == 0
    assert spent(backbone, questions[0])[0] > 0
    backbone.scores.clear()
    assert backbone.scores.used == 0 < spent(backbone, questions[2])[0]
    backbone.scores = ScoreMemo(0)
    assert spent(backbone, PROMPTS)[0] == spent(backbone, PROMPTS)[0] > 0


def test_calibrations_of_the_same_prompts_share_their_scores(backbone: Backbone) -> None:
    (episode,) = EpisodeSampler(regular_family(), "test", ways=2, shots=[1], queries=4).episodes(1)
    posed = episode.posed()
    fields = [example.fields for example in posed.query]
    computed = []
    for calibration in ("none", "batch", "contextual"):
        before = backbone.meter.computed_tokens
        learner = make("in-context", {"calibration": calibration}, backbone)
        learner.adapt(posed.support, posed.labels).log_probs(fields)
        computed.append(backbone.meter.computed_tokens - before)
    assert computed[1] == 0 < computed[2] < computed[0] * 2
    assert computed[0] > 0

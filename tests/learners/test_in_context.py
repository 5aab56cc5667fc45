from __future__ import annotations

import pytest
import torch

from icl.errors import IclError
from icl.learners.in_context import fit_prompt
from icl.learners.registry import make
from icl.models.reference import naive_scores
from tests import tiny
from tests.learners import problems

TEXTS = [e.fields for e in problems.query()]


def test_in_context_probabilities_are_the_naive_scorers_normalised() -> None:
    backbone = tiny.backbone("gemma3-hybrid")
    support, labels = problems.support(2), problems.labels()
    pairs = [(e.fields, e.label) for e in support]
    prompts = [labels.template.prompt(pairs, text) for text in TEXTS]
    expected = naive_scores(backbone, prompts, [" month", " weekday", " organ"]).log_softmax(1)
    out = make("in-context", {}, backbone).adapt(support, labels).log_probs(TEXTS)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


def test_zero_shot_ignores_the_support_set() -> None:
    learner = make("zero-shot", {}, tiny.backbone())
    with_support = learner.adapt(problems.support(2), problems.labels()).log_probs(TEXTS)
    without = learner.adapt([], problems.labels()).log_probs(TEXTS)
    assert torch.equal(with_support, without)


def test_whole_demonstrations_are_dropped_evenly_and_it_is_said() -> None:
    backbone, support = tiny.backbone(), problems.support(4)
    with pytest.warns(UserWarning, match="of 12 demonstrations fit"):
        prompt = fit_prompt(backbone, support, problems.labels(), TEXTS[0], room=120)
    assert len(tiny.tokenizer()(prompt)["input_ids"]) <= 120
    counts = [prompt.count(f"Kind: {name}") for name in problems.NAMES]
    assert 0 < sum(counts) < 12
    assert max(counts) - min(counts) <= 1
    assert prompt.startswith("Word:")
    assert prompt.endswith("Kind:")


def test_a_query_longer_than_the_context_is_refused_in_one_sentence() -> None:
    with pytest.raises(IclError, match="does not fit in the model's context"):
        fit_prompt(tiny.backbone(), [], problems.labels(), {"text": "long " * 50}, room=20)

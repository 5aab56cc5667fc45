"""Prompting an encoder-decoder: the same scores as one pass for each prompt and answer."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from icl.learners.registry import make
from icl.models.seq2seq import Seq2Seq
from tests import tiny
from tests.learners import problems

LABELS, SUPPORT = problems.labels(), problems.support(1)
TEXTS = [e.fields for e in problems.query()[:2]]


def t5() -> Seq2Seq:
    config = T5Config(
        vocab_size=len(tiny.tokenizer()), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=1, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config).eval()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    return Seq2Seq(model, tiny.tokenizer(), "tiny-t5")


@torch.no_grad()
def alone(backbone: Seq2Seq, prompt: str, answer: str) -> tuple[float, int]:
    """Return an answer's log-probability and its number of tokens."""
    ids = torch.tensor([tiny.tokenizer()(prompt)["input_ids"]])
    target = tiny.tokenizer()(answer, add_special_tokens=False)["input_ids"]
    logits = backbone.model(
        input_ids=ids, decoder_input_ids=torch.tensor([[1, *target[:-1]]])
    ).logits[0]
    picked = logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None])
    return float(picked.sum()), len(target)


@pytest.mark.parametrize("normalise", ["sum", "token"])
@pytest.mark.parametrize("scoring", ["direct", "channel"])
def test_scores_are_those_of_one_pass_each(scoring: str, normalise: str) -> None:
    backbone = t5()
    expected = torch.zeros(len(TEXTS), 3)
    for i, text in enumerate(TEXTS):
        for j, name in enumerate(LABELS.names):
            if scoring == "direct":
                prompt = LABELS.template.prompt([(e.fields, e.label) for e in SUPPORT], text)
                answer = f" {name}"
            else:
                shown = [f"Kind: {e.label}\nWord: {e.fields['text']}\n\n" for e in SUPPORT]
                prompt = "".join(shown) + f"Kind: {name}\n"
                answer = f"Word: {text['text']}"
            total, size = alone(backbone, prompt, answer)
            expected[i, j] = total / (size if normalise == "token" else 1)
    learner = make("in-context", {"scoring": scoring, "normalise": normalise}, backbone)
    out = learner.adapt(SUPPORT, LABELS).log_probs(TEXTS)
    torch.testing.assert_close(out, expected.log_softmax(1), atol=1e-4, rtol=0)

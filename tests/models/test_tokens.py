"""What a tokenizer puts behind a text is no part of a label, a prompt or an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.loading.load import load_backbone
from icl.models.scoring.generate import generate
from icl.models.scoring.scorer import label_scores
from icl.models.tokens import encode, encode_pairs
from tests import tiny

BEHIND = ["$A </s>", "<s> $A </s>", "<s> $A </s> </s>", "</s> $A </s>", "<s> $A <s>"]
PROMPTS = ["Word: May\nKind:", "Word: Montag, or a longer word\nKind:"]
ANSWERS = [" month", " weekday", " organ"]


def made(template: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with other special tokens around a text."""
    raw = Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())
    raw.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def backbones(template: str) -> tuple[Backbone, Backbone]:
    """A model with a tokenizer, and with the one that puts nothing behind a text."""
    one, bare = tiny.backbone(), tiny.backbone()
    one.tokenizer, bare.tokenizer = made(template), made(template[: template.index("$A") + 2])
    return one, bare


@pytest.mark.parametrize("template", BEHIND)
def test_nothing_behind_a_text_is_scored_continued_or_conditioned_on(template: str) -> None:
    one, bare = backbones(template)
    for found, wanted in zip(
        encode(one.tokenizer, PROMPTS), encode(bare.tokenizer, PROMPTS), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert torch.equal(label_scores(one, PROMPTS, ANSWERS), label_scores(bare, PROMPTS, ANSWERS))
    assert generate(one, PROMPTS, max_new_tokens=4) == generate(bare, PROMPTS, max_new_tokens=4)


@pytest.mark.parametrize("template", ["$A", "<s> $A", *BEHIND])
def test_special_tokens_that_a_text_itself_ends_with_stay(template: str) -> None:
    tokenizer = made(template)
    (row,) = encode(tokenizer, ["May</s></s>"])
    assert row[-2:].tolist() == [1, 1]
    assert row[-3] != 1
    ((pair,),) = encode_pairs(tokenizer, ["May"], ["</s>"])
    assert pair.tokens[pair.answer_from :].tolist() == [1]


def test_an_embedding_reads_what_the_tokenizer_puts_behind_a_text() -> None:
    one, bare = backbones("<s> $A </s>")
    closed = [np.append(row, 1) for row in encode(bare.tokenizer, PROMPTS)]
    for pooling in ("last", "mean"):
        with torch.no_grad():
            wanted = Embedder(bare, pooling=pooling).run(closed)
        found = Embedder(one, pooling=pooling, keep=False).embed(PROMPTS)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    words = [Embedder(b, pooling="prompt", keep=False).embed(PROMPTS) for b in (one, bare)]
    assert torch.equal(*words)  # the state that predicts the next word


def test_a_mean_leaves_out_the_first_token_only_where_it_is_bos() -> None:
    one, bare = backbones("<s> $A")[0], backbones("$A")[0]
    for backbone, first in ((one, 1), (bare, 0)):
        (row,) = encode(backbone.tokenizer, PROMPTS[:1])
        with torch.no_grad():
            states = backbone.model.base_model(input_ids=torch.from_numpy(row)[None])
        wanted = states.last_hidden_state[0, first:].mean(0)
        found = Embedder(backbone, keep=False).embed(PROMPTS[:1])[0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_told_before_the_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path)
    larger = made("<s> $A")
    larger.add_special_tokens({"extra_special_tokens": ["<image>"]})
    larger.save_pretrained(tmp_path)
    load_backbone(str(tmp_path), device="cpu")  # no ordinary text has that one
    larger.add_tokens(["zebra"])
    larger.save_pretrained(tmp_path)
    monkeypatch.delattr("icl.models.loading.load._model")
    with pytest.raises(IclError, match=r"has 322 tokens, and the model embeddings for 320 \('zebr"):
        load_backbone(str(tmp_path), device="cpu")

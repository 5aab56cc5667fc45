"""Models that cannot run packed: encoder-decoders, and decoders with attention of their own."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.scoring.generate import generate
from icl.models.scoring.reference import naive_scores
from icl.models.scoring.scorer import label_scores
from icl.models.seq2seq import Seq2Seq
from tests import tiny

PROMPTS = ["Word: Januar\nKind:", "Word: a much longer thing here\nKind:", "x"]
ANSWERS = [" month", " weekday", " organ", " organism", " organ ic", "."]
_T5: dict[str, Any] = {
    "vocab_size": 320,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 1,
    "pad_token_id": 1,
}
_BART: dict[str, Any] = {
    "vocab_size": 320,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 1,
    "pad_token_id": 1,
    "max_position_embeddings": 256,
    "forced_eos_token_id": None,
}
MAKERS: dict[str, Any] = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**_T5)),
    "t5-untied": lambda: T5ForConditionalGeneration(T5Config(**_T5, tie_word_embeddings=False)),
    "umt5": lambda: UMT5ForConditionalGeneration(UMT5Config(**_T5)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**_BART)),
    "bloom": lambda: AutoModelForCausalLM.from_config(
        BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)
    ),
}
ENCODER_DECODERS = ["t5", "t5-untied", "umt5", "bart"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, make in MAKERS.items():
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tiny.tokenizer().save_pretrained(folders[name])
    return folders


def load(folder: Path) -> Backbone:
    with pytest.warns() if "bloom" in folder.name else nullcontext():
        return load_backbone(str(folder))


@torch.no_grad()
def one_by_one(backbone: Backbone) -> torch.Tensor:
    """Score each (prompt, answer) alone with the model's own forward pass."""
    scores = torch.zeros(len(PROMPTS), len(ANSWERS))
    start = backbone.model.config.decoder_start_token_id
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([backbone.tokenizer(prompt)["input_ids"]])
        for j, answer in enumerate(ANSWERS):
            target = backbone.tokenizer(answer, add_special_tokens=False)["input_ids"]
            logits = backbone.model(
                input_ids=ids, decoder_input_ids=torch.tensor([[start, *target[:-1]]])
            ).logits[0]
            scores[i, j] = logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None]).sum()
    return scores


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoder_scores_equal_one_pass_for_each_answer(
    name: str, saved: dict[str, Path]
) -> None:
    backbone = load(saved[name])
    assert isinstance(backbone, Seq2Seq)
    reference = one_by_one(backbone)
    assert reference.std() > 0.5
    torch.testing.assert_close(
        label_scores(backbone, PROMPTS, ANSWERS), reference, atol=1e-4, rtol=0
    )


def test_t5_reads_each_prompt_once_and_shared_answer_tokens_once(saved: dict[str, Path]) -> None:
    backbone = load(saved["t5"])
    assert isinstance(backbone, Seq2Seq)
    assert backbone.places_by_distance
    label_scores(backbone, PROMPTS[:1], [" organ", " organism", " organ ic"])
    encode = backbone.tokenizer
    prompt = len(encode(PROMPTS[0])["input_ids"])
    contexts = [
        tuple(encode(a, add_special_tokens=False)["input_ids"][:-1])
        for a in (" organ", " organism", " organ ic")
    ]
    prefixes = {context[:n] for context in contexts for n in range(len(context) + 1)}
    assert backbone.meter.computed_tokens == prompt + len(prefixes)  # () is the start token


def test_scores_of_an_encoder_decoder_do_not_depend_on_the_batch(saved: dict[str, Path]) -> None:
    backbone = load(saved["t5"])
    together = label_scores(backbone, PROMPTS, ANSWERS)
    alone = torch.cat([label_scores(backbone, [p], ANSWERS) for p in PROMPTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_decoder_that_cannot_be_packed_falls_back_and_says_so(saved: dict[str, Path]) -> None:
    with pytest.warns(UserWarning, match="Each prompt and label runs alone"):
        backbone = load_backbone(str(saved["bloom"]))
    torch.testing.assert_close(
        label_scores(backbone, PROMPTS, ANSWERS),
        naive_scores(backbone, PROMPTS, ANSWERS),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("name", ["t5", "bloom"])
def test_what_cannot_be_packed_takes_no_adapter(name: str, saved: dict[str, Path]) -> None:
    backbone = load(saved[name])
    with pytest.raises(IclError, match="is none that takes LoRA factors"):
        label_scores(backbone, PROMPTS, ANSWERS, adapter=Adapter({}, 1.0))
    with pytest.raises(IclError, match="is none that takes LoRA factors"):
        generate(backbone, PROMPTS, max_new_tokens=2, adapter=Adapter({}, 1.0))


@pytest.mark.parametrize("name", ["t5", "bart", "bloom"])
def test_generation_equals_transformers_own(name: str, saved: dict[str, Path]) -> None:
    backbone = load(saved[name])
    for prompt, (text,) in zip(PROMPTS, generate(backbone, PROMPTS, max_new_tokens=6), strict=True):
        ids = torch.tensor([backbone.tokenizer(prompt)["input_ids"]])
        out = backbone.model.generate(
            input_ids=ids,
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=backbone.tokenizer.eos_token_id,
        )
        skip = 1 if backbone.model.config.is_encoder_decoder else ids.shape[1]
        assert text == backbone.tokenizer.decode(out[0, skip:], skip_special_tokens=True)

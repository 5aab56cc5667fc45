"""Bases in 4 and 8 bits: near the full ones, exact in their own terms, and adapters over them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import BertConfig, BertModel, BloomConfig, BloomForCausalLM

from icl.errors import IclError
from icl.learners.registry import make
from icl.models.adapters.lora import LoraSpec, adapted_modules, init_lora
from icl.models.backbone import Backbone
from icl.models.encoder import Encoder
from icl.models.loading.load import load_backbone
from icl.models.scoring.reference import naive_scores
from icl.models.scoring.scorer import make_plan, score
from icl.training.gradient_check import check_gradients
from tests import tiny, tiny_encoders
from tests.second_order import meta_gradient
from tests.training.test_gradient_check import EPISODES, learner

PROMPTS, ANSWERS = ["Word: May\nKind:", "Word: Monday\nKind:"], [" month", " weekday"]
Bits = Literal["4bit", "8bit"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("quantised"), "llama-wide"))


@pytest.mark.parametrize(("bits", "apart", "rounding"), [("4bit", 2.0, 1e-3), ("8bit", 0.5, 0.1)])
def test_a_quantised_base_scores_packed_as_plain_and_near_the_full_one(
    bits: Bits, apart: float, rounding: float, folder: str
) -> None:
    """8 bits multiply in float16, and by what else is in the batch: passes round differently."""
    pytest.importorskip("bitsandbytes")
    full = load_backbone(folder, device="cpu")
    backbone = load_backbone(folder, device="cpu", quantise=bits)
    assert backbone.packed
    with torch.no_grad():
        packed = score(backbone, make_plan(backbone, PROMPTS, ANSWERS))
        wanted = score(full, make_plan(full, PROMPTS, ANSWERS))
    plain = naive_scores(backbone, PROMPTS, ANSWERS)
    torch.testing.assert_close(packed, plain, atol=rounding, rtol=0)
    assert 0 < (packed - wanted).abs().max() < apart
    assert backbone.identity != full.identity


@pytest.mark.parametrize(("bits", "rounding"), [("4bit", 1e-4), ("8bit", 0.2)])
def test_meta_gradients_over_a_quantised_base_are_those_of_the_weights_it_stands_for(
    bits: Bits, rounding: float, folder: str
) -> None:
    """Through two steps, of second order; 8 bits round activations too."""
    pytest.importorskip("bitsandbytes")
    full = load_backbone(folder, device="cpu")
    backbone = load_backbone(folder, device="cpu", quantise=bits)
    spec = LoraSpec(rank=2, start="orthogonal")
    assert adapted_modules(backbone, spec) == adapted_modules(full, spec)
    _stand_in(full, backbone)
    found, wanted = (meta_gradient(b, PROMPTS, ANSWERS) for b in (backbone, full))
    assert float((found - wanted).norm() / wanted.norm()) < rounding


def _stand_in(full: Backbone, quantised: Backbone) -> None:
    """Give a full model the weights that a quantised one multiplies by."""
    for module, other in zip(quantised.model.modules(), full.model.modules(), strict=True):
        if "Linear" in type(module).__name__ and type(module) is not torch.nn.Linear:
            unit = torch.eye(module.in_features).requires_grad_()
            other.weight.data = module(unit).detach().T.contiguous()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_attention_that_cannot_be_packed_is_found_under_quantised_weights(
    bits: Bits, dtype: str, tmp_path: Path
) -> None:
    """ALiBi that is left out makes a smaller difference than products that round as they like."""
    pytest.importorskip("bitsandbytes")
    config = BloomConfig(vocab_size=len(tiny.tokenizer()), hidden_size=64, n_layer=2, n_head=4)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="gives other numbers when packed"):
        backbone = load_backbone(str(tmp_path), device="cpu", quantise=bits, dtype=dtype)
    assert not backbone.packed


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_encoders_are_quantised_too(bits: Bits, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    config = BertConfig(
        vocab_size=len(tiny_encoders.tokenizer()), hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    tiny_encoders.tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), device="cpu", quantise=bits)
    assert isinstance(backbone, Encoder)
    with pytest.raises(IclError, match="tunes all weights"):
        make("setfit", {}, backbone)


def test_a_checkpoint_that_was_saved_in_4_bits_keeps_its_gradients(
    folder: str, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    quantised = load_backbone(folder, device="cpu", quantise="4bit")
    quantised.model.save_pretrained(tmp_path)
    quantised.tokenizer.save_pretrained(tmp_path)
    wanted = meta_gradient(quantised, PROMPTS, ANSWERS)
    saved = load_backbone(str(tmp_path), device="cpu")
    with torch.no_grad():
        score(saved, make_plan(saved, PROMPTS, ANSWERS))  # where bitsandbytes would repack
    found = meta_gradient(saved, PROMPTS, ANSWERS)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4
    with pytest.raises(IclError, match="saved in few bits already; drop `quantise`"):
        load_backbone(str(tmp_path), device="cpu", quantise="8bit")


def test_widths_that_bitsandbytes_packs_wrongly_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(IclError, match=r"a linear map of 32 inputs \(model\.layers\.0"):
        load_backbone(str(tiny.save(tmp_path)), device="cpu", quantise="4bit")


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_gradients_over_quantised_weights_are_checked(bits: Bits, folder: str) -> None:
    pytest.importorskip("bitsandbytes")
    backbone = load_backbone(folder, device="cpu", quantise=bits)
    with torch.no_grad():
        before = score(backbone, make_plan(backbone, PROMPTS, ANSWERS))
    for method in ("maml", "fomaml"):  # the second finds the model as it was
        checks = check_gradients(learner(method, backbone), EPISODES)
        assert all(check.passed for check in checks), checks
    with torch.no_grad():
        assert torch.equal(score(backbone, make_plan(backbone, PROMPTS, ANSWERS)), before)


def test_quantised_weights_are_not_fetched_from_elsewhere(folder: str) -> None:
    pytest.importorskip("bitsandbytes")
    places = dict.fromkeys(("model", "lm_head"), "cpu") | {"model": "disk"}
    with pytest.raises(IclError, match="drop one of the two"):
        load_backbone(folder, device_map=places, quantise="4bit")


def test_dora_over_a_quantised_base_is_refused(folder: str) -> None:
    pytest.importorskip("bitsandbytes")
    backbone = load_backbone(folder, device="cpu", quantise="4bit")
    with pytest.raises(IclError, match="or no `quantise`"):
        init_lora(backbone, LoraSpec(rank=2, variant="dora"), seed=0)


def test_without_bitsandbytes_the_extra_is_named(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(IclError, match=r"run: pip install 'icl\[quantise\]'"):
        load_backbone(folder, quantise="4bit")

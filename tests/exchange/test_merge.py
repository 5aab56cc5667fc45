"""`icl merge` against PEFT itself: each kind of adapter is right to rounding, or refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from icl.errors import IclError
from icl.exchange.merge import merge_adapter
from icl.models.adapters.peft_adapter import WEIGHTS
from tests import tiny

TOKENS = torch.tensor([[0, 5, 17, 33, 60, 200, 8]])


def tied_base(folder: Path, architecture: str, *, tied: bool) -> Path:
    made = tiny.model(architecture)
    made.config.tie_word_embeddings = tied
    if tied:
        made.tie_weights()
        made.get_output_embeddings().weight = made.get_input_embeddings().weight
    made.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, **config: Any) -> torch.Tensor:
    """Write an adapter with plain PEFT, all that it trains moved; return PEFT's own logits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **config}
        made = AutoModelForCausalLM.from_pretrained(base)
        model = peft.get_peft_model(made, peft.LoraConfig(**settings)).eval()
        generator = torch.Generator().manual_seed(1)
        moved = set()
        for name, value in model.named_parameters():
            if value.requires_grad:
                moved.add(name)
                value.data += 0.1 * torch.randn(value.shape, generator=generator)
        assert moved
        model.save_pretrained(folder)
        again = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
        with torch.no_grad():
            found = again.eval()(TOKENS).logits
            assert torch.allclose(found, model(TOKENS).logits, atol=1e-5)
    return found


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(TOKENS).logits


SHAPES: list[tuple[str, bool, dict[str, Any]]] = [
    ("llama", True, {"target_modules": ["lm_head", "q_proj"]}),
    ("llama", True, {"target_modules": ["embed_tokens"]}),
    ("llama", True, {"target_modules": ["embed_tokens", "lm_head"]}),
    ("gemma3-hybrid", True, {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    ("gpt2", True, {"target_modules": ["lm_head", "c_attn"], "use_dora": True}),
    ("llama", True, {"modules_to_save": ["lm_head"]}),
    ("llama", True, {"modules_to_save": ["embed_tokens"]}),
    ("llama", True, {"trainable_token_indices": {"embed_tokens": [5, 17]}}),
    ("llama", False, {"target_modules": ["lm_head", "embed_tokens"], "use_rslora": True}),
    ("llama", False, {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3}}),
    ("gpt2", True, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "bias": "all"}),
    ("qwen2", False, {"bias": "lora_only", "use_dora": True, "layers_to_transform": [1]}),
]


@pytest.mark.parametrize(("architecture", "tied", "config"), SHAPES)
def test_a_merged_model_says_what_pefts_model_says(
    tmp_path: Path, architecture: str, tied: bool, config: dict[str, Any]
) -> None:
    base = tied_base(tmp_path / "base", architecture, tied=tied)
    theirs = save_adapter(base, tmp_path / "adapter", **config)
    assert not torch.allclose(theirs, logits(base), atol=1e-2)
    merged = merge_adapter(str(base), str(tmp_path / "adapter"), tmp_path / "merged")
    torch.testing.assert_close(logits(merged), theirs, atol=2e-4, rtol=0)
    told = json.loads((merged / "config.json").read_text())
    if not tied or "c_attn" in str(config) or "trainable_token_indices" in config:
        assert told["tie_word_embeddings"] == (tied and "lm_head" not in str(config))


def renamed(folder: Path, old: str, new: str, only: str = "") -> None:
    path = folder / WEIGHTS
    save_file(
        {k.replace(old, new) if only in k else k: v for k, v in load_file(path).items()}, path
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base_model.model.", ""),
        ("base_model.model.", "base_model.model.module."),
        ("base_model.model.model.", "base_model.model.model.language_model."),
        ("base_model.model.model.", "base_model.model.language_model.model."),
        (".lora_A.", ".lora_A.default."),
    ],
)
def test_keys_of_other_versions_find_their_places(tmp_path: Path, old: str, new: str) -> None:
    base = tiny.save(tmp_path / "base")
    theirs = save_adapter(base, tmp_path / "adapter")
    renamed(tmp_path / "adapter", old, new)
    merged = merge_adapter(str(base), str(tmp_path / "adapter"), tmp_path / "merged")
    torch.testing.assert_close(logits(merged), theirs, atol=2e-4, rtol=0)


def test_keys_without_a_place_and_places_without_a_key_are_named(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")

    def told(old: str, new: str, only: str = "", **config: Any) -> str:
        save_adapter(base, tmp_path / "adapter", **config)
        renamed(tmp_path / "adapter", old, new, only)
        with pytest.raises(IclError) as error:
            merge_adapter(str(base), str(tmp_path / "adapter"), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "layers.0.attn.q_proj.lora_A" in told("self_attn", "attn")
    assert "layers.2.mix.v_proj.lora_A" in told("self_attn", "mix", "layers.2.self_attn.v_proj")
    assert "lm_head" in told("lm_head", "other", modules_to_save=["lm_head"])
    path = tmp_path / "adapter" / WEIGHTS
    save_adapter(base, tmp_path / "adapter")
    save_file({k: v for k, v in load_file(path).items() if "layers.1" not in k}, path)
    with pytest.raises(IclError, match=r"no weights for 'base_model.*layers\.1.*says it adapts"):
        merge_adapter(str(base), str(tmp_path / "adapter"), tmp_path / "out")


def test_a_head_that_is_left_out_and_another_base_are_told(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    save_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / WEIGHTS
    save_file({**load_file(path), "base_model.model.score.weight": torch.zeros(2, 32)}, path)
    other = tiny.save(tmp_path / "other")
    with pytest.warns(UserWarning) as seen:
        merge_adapter(str(other), str(tmp_path / "adapter"), tmp_path / "merged")
    text = " ".join(str(one.message) for one in seen)
    assert "head of another task, 'base_model.model.score.weight'" in text
    assert "is merged into" in text and "base'" in text

"""The check at load time looks behind windows and switches that its few tokens do not reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig, PreTrainedConfig

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.loading.self_check import check_packing, narrowed
from icl.models.packed import attention, rope
from tests import tiny

WIDE: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**tiny._SIZES, sliding_window=200),
    "gemma3": Gemma3TextConfig(**tiny._SIZES, sliding_window=200, query_pre_attn_scalar=8),
    **tiny.BY_LENGTH,
}


def _backbone(name: str) -> Backbone:
    config = type(WIDE[name]).from_dict(WIDE[name].to_dict())
    config.vocab_size, config.pad_token_id = len(tiny.tokenizer()), 1
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.register())
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return Backbone(model, tiny.tokenizer(), name)


@pytest.mark.parametrize("name", sorted(WIDE))
def test_the_check_leaves_a_model_as_it_was(name: str) -> None:
    backbone = _backbone(name)
    tokens = torch.arange(2, 18)[None]
    with torch.no_grad():
        before, said = backbone.model(input_ids=tokens).logits, backbone.model.config.to_dict()
        with narrowed(backbone.model):
            assert not torch.equal(backbone.model(input_ids=tokens).logits, before)
        check_packing(backbone)
        torch.testing.assert_close(backbone.model(input_ids=tokens).logits, before)
    assert backbone.model.config.to_dict() == said


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_a_kernel_that_is_wrong_behind_its_window_alone_is_found_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attention.attend

    def boundless(*args: Any) -> torch.Tensor:
        *rest, _, softcap = args
        return real(*rest, None, softcap)

    monkeypatch.setattr(attention, "attend", boundless)
    with pytest.raises(IclError, match="gives other numbers when packed"):
        check_packing(_backbone(name))


@pytest.mark.parametrize("name", sorted(tiny.BY_LENGTH))
def test_positions_that_the_longest_text_of_a_pass_decides_are_found_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passing(module: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        return forward

    monkeypatch.setattr(rope, "_by_span", passing)
    with pytest.raises(IclError, match="gives other numbers when packed"):
        check_packing(_backbone(name))

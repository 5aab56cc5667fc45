"""Bases over the CPU and a pretend device beside it: the numbers of one device.

Run by test_spread.py in a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from icl.models.adapters.lora import Variant
from icl.models.backbone import Backbone
from icl.models.packed import attention
from icl.models.scoring.generate import generate
from icl.models.scoring.scorer import make_plan, score
from tests import pretend, tiny
from tests.second_order import meta_gradient

# so long that the last layer is run for the rows alone that are read
PROMPTS = [f"{i}. Text: the cat sat on the mat of animals, organ {i}\nTopic:" for i in range(3)]
ANSWERS = ["a", "b"]


def spread(architecture: str) -> Backbone:
    """Lay a tiny model's layers in turn on the pretend device and the CPU, where its words are."""
    from accelerate.hooks import attach_align_device_hook_on_blocks

    model: Any = tiny.model(architecture, attention.register())
    alone = Backbone(tiny.model(architecture, attention.register()), tiny.tokenizer(), "names")
    names = {id(module): name for name, module in model.named_modules()}
    layers = alone.layer_names[0].rpartition(".")[0]
    places = {f"{layers}.{i}": (pretend.DEVICE, "cpu")[i % 2] for i in range(len(alone.layers))}
    for module in model.base_model.children():
        name = names[id(module)]
        if name != layers:
            places[name] = pretend.DEVICE if "norm" in name or "ln_f" in name else "cpu"
    head = model.get_output_embeddings()
    tied = head.weight is model.get_input_embeddings().weight
    places[names[id(head)]] = "cpu" if tied else pretend.DEVICE
    # what `device_map` does; but it would take the CPU for a place to fetch weights from
    offload = dict.fromkeys(places, False)
    attach_align_device_hook_on_blocks(model, execution_device=places, offload=offload)
    return Backbone(model, tiny.tokenizer(), f"spread-{architecture}")


@pytest.mark.parametrize("architecture", sorted(tiny.CONFIGS))
def test_layers_on_several_devices_give_the_numbers_of_one(architecture: str) -> None:
    whole = tiny.backbone(architecture)
    plan = make_plan(whole, PROMPTS, ANSWERS)
    with torch.no_grad():
        wanted = score(whole, plan)
    with pretend.device(), torch.no_grad():
        backbone = spread(architecture)
        assert len({p.device for p in backbone.model.parameters()}) == 2
        plan = make_plan(backbone, PROMPTS, ANSWERS)
        assert plan.ends is not None
        trunk = backbone.trunk(plan.layout, 2)
        found = [score(backbone, plan), score(backbone, plan, trunk=trunk, start=2)]
        assert {f.device for f in found} == {trunk.device} == {backbone.device}
        found = [f.cpu() for f in found]
    for scores in found:
        torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["lora", "dora"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2-softcap", "gemma3-hybrid"])
def test_meta_gradients_cross_devices(architecture: str, variant: Variant) -> None:
    wanted = meta_gradient(tiny.backbone(architecture), PROMPTS, ANSWERS, variant)
    with pretend.device():
        found = meta_gradient(spread(architecture), PROMPTS, ANSWERS, variant).cpu()
    assert float(wanted.norm()) > 0
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4


def test_texts_are_generated_across_devices() -> None:
    wanted = generate(tiny.backbone("llama"), PROMPTS, max_new_tokens=6)
    with pretend.device():
        assert generate(spread("llama"), PROMPTS, max_new_tokens=6) == wanted


def test_the_devices_do_not_mix() -> None:
    with pretend.device():
        linear = nn.Linear(2, 2).to(pretend.DEVICE)
        assert linear(torch.ones(1, 2).to(pretend.DEVICE)).device == torch.device(pretend.DEVICE)
        with pytest.raises(RuntimeError, match=r"cpu.*pretend:0"):
            linear(torch.ones(1, 2))

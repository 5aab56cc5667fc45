from __future__ import annotations

import pytest
import torch

from icl.errors import IclError
from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import default_targets, init_lora, lowest_layer
from icl.models.scoring.scorer import make_plan, make_task_plan, score
from tests import tiny

TASKS = [
    (["Word: Juni\nKind:", "Word: a longer one\nKind:"], [" month", " weekday"]),
    (["Word: Paris\nKind:"], [" organ", " organism"]),
    (["Text: the cat\nTopic:", "x"], [" animals", " cat"]),
]


def adapters(
    architecture: str, targets: tuple[str, ...], tasks: int, variant: str = "lora"
) -> tuple:
    backbone = tiny.backbone(architecture)
    spec = LoraSpec(rank=4, targets=targets, variant=variant)
    generator = torch.Generator().manual_seed(1)
    factors = {
        name: torch.stack(
            [value + 0.1 * torch.randn(value.shape, generator=generator) for _ in range(tasks)]
        )
        for name, value in init_lora(backbone, spec, seed=0).items()
    }
    return backbone, factors, spec


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [("llama", ("q_proj", "v_proj")), ("gpt2", ("c_attn",)), ("gemma3-hybrid", ("down_proj",))],
)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
def test_a_task_axis_equals_the_loop_over_tasks(
    architecture: str, targets: tuple[str, ...], count: int, variant: str
) -> None:
    backbone, factors, spec = adapters(architecture, targets, count, variant)
    together = score(
        backbone,
        make_task_plan(backbone, TASKS[:count]),
        adapter=Adapter(factors, spec.scale),
    )
    alone = torch.cat(
        [
            score(
                backbone,
                make_plan(backbone, prompts, answers),
                adapter=Adapter({n: v[i] for n, v in factors.items()}, spec.scale),
            )
            for i, (prompts, answers) in enumerate(TASKS[:count])
        ]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_equal_rows_a_task_take_the_batched_product_and_agree_with_the_loop() -> None:
    backbone, factors, spec = adapters("llama", ("q_proj", "v_proj"), 2)
    plan = make_task_plan(backbone, [TASKS[0], TASKS[0]])
    assert len(set(plan.tasks)) == 1
    together = score(backbone, plan, adapter=Adapter(factors, spec.scale))
    for i in range(2):
        one = Adapter({n: v[i] for n, v in factors.items()}, spec.scale)
        alone = score(backbone, make_plan(backbone, *TASKS[0]), adapter=one)
        torch.testing.assert_close(together[2 * i : 2 * i + 2], alone, atol=1e-5, rtol=0)


def test_a_fresh_adapter_changes_nothing_and_a_moved_one_does() -> None:
    backbone, factors, spec = adapters("llama", ("q_proj",), 1)
    plan = make_plan(backbone, *TASKS[0])
    base = score(backbone, plan)
    fresh = score(backbone, plan, adapter=Adapter(init_lora(backbone, spec, 0), spec.scale))
    moved = score(backbone, plan, adapter=Adapter({n: v[0] for n, v in factors.items()}, 2.0))
    assert torch.equal(base, fresh)
    assert not torch.allclose(base, moved, atol=1e-3)
    assert torch.equal(base, score(backbone, plan))  # nothing of the adapter stays behind


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
@pytest.mark.parametrize(
    ("architecture", "targets"), [("llama", ("q_proj", "v_proj")), ("gpt2", ("c_attn",))]
)
def test_packed_lora_equals_peft_with_the_same_factors(
    architecture: str, targets: tuple[str, ...], variant: str
) -> None:
    from peft import LoraConfig, get_peft_model

    backbone, factors, spec = adapters(architecture, targets, 1, variant)
    mine = {n: v[0] for n, v in factors.items()}
    peft = get_peft_model(
        tiny.model(architecture).eval(),
        LoraConfig(
            r=4,
            lora_alpha=spec.alpha,
            target_modules=list(targets),
            use_rslora=variant == "rslora",
            use_dora=variant == "dora",
        ),
    )
    state = peft.state_dict()
    for name, value in mine.items():
        module, factor = name.rsplit(".", 1)
        state[f"base_model.model.{module}.{factor}.default.weight"].copy_(value)
    peft.eval()
    prompt, answer = TASKS[0][0][0], " month"
    ids = torch.tensor([tiny.tokenizer()(prompt + answer)["input_ids"]])
    plan = make_plan(backbone, [prompt], [answer])
    with torch.no_grad():
        log_probs = peft(ids).logits[0].log_softmax(-1)
        scored = len(plan.target)
        theirs = log_probs[-scored - 1 : -1].gather(1, ids[0, -scored:, None]).sum()
        ours = score(backbone, plan, adapter=Adapter(mine, spec.scale))
    torch.testing.assert_close(ours[0, 0], theirs, atol=1e-5, rtol=0)


def test_an_orthogonal_start_is_the_base_model_though_no_factor_is_zero() -> None:
    backbone = tiny.backbone()
    spec = LoraSpec(rank=4, targets=("q_proj",), start="orthogonal")
    factors = init_lora(backbone, spec, 0)
    plan = make_plan(backbone, *TASKS[0])
    ours = score(backbone, plan, adapter=Adapter(factors, spec.scale))
    torch.testing.assert_close(ours, score(backbone, plan), atol=1e-5, rtol=0)
    assert all(float(v.abs().mean()) > 0.01 for v in factors.values())
    leaves = {n: v.requires_grad_() for n, v in factors.items()}
    total = score(backbone, plan, adapter=Adapter(leaves, spec.scale))[0, 0]
    assert all(bool(g.any()) for g in torch.autograd.grad(total, list(leaves.values())))
    with pytest.raises(IclError, match="even rank"):
        init_lora(backbone, LoraSpec(rank=3, targets=("q_proj",), start="orthogonal"), 0)


@pytest.mark.parametrize("variant", ["rslora", "dora"])
def test_variants_start_at_the_base_model(variant: str) -> None:
    backbone = tiny.backbone()
    spec = LoraSpec(rank=4, targets=("q_proj",), variant=variant)
    plan = make_plan(backbone, *TASKS[0])
    ours = score(backbone, plan, adapter=Adapter(init_lora(backbone, spec, 0), spec.scale))
    torch.testing.assert_close(ours, score(backbone, plan), atol=1e-5, rtol=0)


def test_the_seed_decides_the_start() -> None:
    backbone, spec = tiny.backbone(), LoraSpec(targets=("q_proj",))
    one, same, other = (init_lora(backbone, spec, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)


def test_top_layers_adapts_only_those() -> None:
    backbone = tiny.backbone()
    factors = init_lora(backbone, LoraSpec(targets=("q_proj",), top_layers=1), 0)
    assert lowest_layer(backbone, factors) == 2
    assert len(factors) == 2


def test_unknown_targets_are_named_with_the_ones_there_are() -> None:
    with pytest.raises(IclError, match=r"no linear map named \['query'\].*q_proj"):
        init_lora(tiny.backbone(), LoraSpec(targets=("query",)), 0)


def test_default_targets_are_pefts() -> None:
    assert default_targets(tiny.backbone("gpt2")) == ("c_attn",)

"""The short ways of first-order gradients against plain automatic differentiation, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.backbone import Backbone
from icl.models.packed import attention, blocks, ends, norms
from icl.models.packed.vocabulary import Normaliser
from icl.models.scoring import scorer
from icl.models.scoring.scorer import make_plan, make_task_plan, score
from tests import tiny

PROMPTS = ["Word: Juni\nKind:", "Word: a longer one that goes on\nKind:", "Word: May\nKind:"]
ANSWERS = [" month", " weekday", " organ"]
TARGETS = {"gpt2": ("c_attn",), "gpt-neox": ("query_key_value",)}


@pytest.fixture(autouse=True)
def _ends_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny tokenizers make many rows to read from, too many to be worth it."""
    monkeypatch.setattr(ends, "_WORTH", 1000)


def doubled(architecture: str) -> tuple[Backbone, dict[str, Tensor], LoraSpec]:
    backbone = tiny.backbone(architecture)
    backbone.model.double()
    spec = LoraSpec(rank=2, targets=TARGETS.get(architecture, ("q_proj", "v_proj")))
    generator = torch.Generator().manual_seed(1)
    factors = {
        n: (v + 0.3 * torch.randn(v.shape, generator=generator)).double()
        for n, v in init_lora(backbone, spec, 0).items()
    }
    return backbone, factors, spec


def gradients(
    architecture: str, *, relative: bool = False, second_order: bool = False
) -> tuple[Tensor, Tensor]:
    """Return scores and the (derivative of the) gradient of their cross-entropy, flattened."""
    backbone, factors, spec = doubled(architecture)
    leaves = {n: v.clone().requires_grad_() for n, v in factors.items()}
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    scores = score(backbone, plan, adapter=Adapter(leaves, spec.scale), relative=relative)
    loss = -(scores.log_softmax(1) if relative else scores)[:, 1].sum()
    found = torch.autograd.grad(loss, list(leaves.values()), create_graph=second_order)
    if second_order:
        size = sum(g.square().sum() for g in found)
        assert isinstance(size, Tensor)
        found = torch.autograd.grad(size, list(leaves.values()))
    return scores.detach(), torch.cat([g.flatten() for g in found])


def switch_off(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take plain operations everywhere; return a list that fills with what would have run."""
    seen: list[str] = []

    def never(name: str) -> Callable[..., bool]:
        return lambda *_: bool(seen.append(name))

    monkeypatch.setattr(blocks, "can_fuse", never("attention"))
    monkeypatch.setattr(Backbone, "_can_differentiate", never("normaliser"))
    monkeypatch.setattr(scorer, "lay_out_ends", lambda *_: seen.append("ends"))
    return seen


@pytest.mark.parametrize("architecture", tiny.CONFIGS)
@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_gradients_are_those_of_plain_operations(
    architecture: str, second_order: bool, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = gradients(architecture, relative=relative, second_order=second_order)
    seen = switch_off(monkeypatch)
    plain = gradients(architecture, relative=relative, second_order=second_order)
    assert {"attention", "ends"} <= set(seen)
    assert float(plain[1].norm()) > 0
    torch.testing.assert_close(short[0], plain[0], atol=1e-5, rtol=1e-5)
    assert float((short[1] - plain[1]).norm() / plain[1].norm()) < 1e-6


@pytest.mark.parametrize("architecture", ["llama", "mistral-sliding"])
def test_packed_attention_has_the_gradients_of_finite_differences(architecture: str) -> None:
    backbone = tiny.backbone(architecture)
    layout = make_plan(backbone, PROMPTS[:2], ANSWERS[:2]).layout
    window = 8 if architecture == "mistral-sliding" else None
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(layout.rows, heads, 3, generator=generator, dtype=torch.float64)
        for heads in (2, 1, 1)
    ]
    for tensor in inputs:
        tensor.requires_grad_()

    def attend(*tensors: Tensor) -> Tensor:
        return attention.attend(*tensors, layout, window)

    assert attend(*inputs).grad_fn.name() == "PackedAttentionBackward"  # type: ignore[union-attr]
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(attend, inputs, fast_mode=True)


def test_the_normaliser_has_the_gradients_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    hidden = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()

    def run(states: Tensor) -> Tensor:
        return Normaliser.apply(states, weight, 7)  # type: ignore[no-untyped-call, no-any-return]

    torch.testing.assert_close(run(hidden), (hidden @ weight.T).logsumexp(1))
    assert torch.autograd.gradcheck(run, hidden)
    assert torch.autograd.gradgradcheck(run, hidden)


def test_the_norm_has_the_gradients_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()

    def run(states: Tensor) -> Tensor:
        return norms.Norm.apply(states, weight, 1.0, 1e-3)  # type: ignore[no-untyped-call, no-any-return]

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


@pytest.mark.parametrize("architecture", ["llama", "gemma3-hybrid"])
def test_a_hooked_norm_gives_the_gradient_of_the_models_own(architecture: str) -> None:
    from icl.models.packed.state import ForwardState, activate

    backbone = tiny.backbone(architecture)
    norm = backbone.layers[0].input_layernorm
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (own,) = torch.autograd.grad(norm(x).sin().sum(), x)
    with activate(ForwardState(make_plan(backbone, PROMPTS, ANSWERS).layout)):
        out = norm(x)
    assert out.grad_fn.name() == "NormBackward"
    (short,) = torch.autograd.grad(out.sin().sum(), x)
    torch.testing.assert_close(short, own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma3-hybrid"])
def test_rms_norms_are_known_by_their_numbers(architecture: str) -> None:
    backbone = tiny.backbone(architecture)
    norm = backbone.layers[0].input_layernorm
    shift = 1.0 if architecture.startswith("gemma") else 0.0
    eps = norms._eps(norm)
    assert eps is not None
    assert norms._shift(norm.forward, norm.weight, eps) == shift
    assert norms._shift(lambda x: x, norm.weight, eps) is None


@pytest.mark.parametrize("architecture", tiny.CONFIGS)
def test_ends_are_the_rows_of_a_whole_pass(architecture: str) -> None:
    backbone = tiny.backbone(architecture)
    plan = make_task_plan(backbone, [(PROMPTS[:1], ANSWERS), (PROMPTS[1:], ANSWERS)])
    found = ends.lay_out_ends(plan.trie, plan.at.flip(0))
    assert found is not None
    assert sum(found.by_task(plan.tasks)) == len(found.rows)
    torch.testing.assert_close(found.rows[found.places(plan.at)], plan.at)
    with torch.no_grad():
        whole = backbone.hidden(plan.layout)
        few = backbone.hidden(plan.layout, ends=found)
    torch.testing.assert_close(few, whole[found.rows], atol=1e-5, rtol=1e-5)


def test_the_last_layer_runs_for_the_ends_only() -> None:
    backbone = tiny.backbone("llama")
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    found = ends.lay_out_ends(plan.trie, plan.at)
    assert found is not None
    rows: list[int] = []
    handle = backbone.layers[-1].mlp.register_forward_hook(
        lambda _, args, __: rows.append(args[0].shape[1])
    )
    with torch.no_grad():
        backbone.hidden(plan.layout, ends=found)
    handle.remove()
    assert rows == [len(found.rows)]
    assert len(found.rows) < len(plan.trie.tokens)

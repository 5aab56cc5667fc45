"""Products by oneDNN give the numbers, gradients and second derivatives of plain ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.packed import products
from icl.models.packed.state import ForwardState, activate
from icl.models.scoring.scorer import make_plan, score
from tests import tiny


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (2, 5, 8)])
def test_products_are_linear_maps(
    dtype: torch.dtype, with_bias: bool, shape: tuple[int, ...]
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw).to(dtype)
    weight = torch.randn(6, 8, generator=draw).to(dtype)
    bias = torch.randn(6, generator=draw).to(dtype) if with_bias else None
    torch.testing.assert_close(
        products.product(x, weight, bias), torch.nn.functional.linear(x, weight, bias)
    )


def test_scores_with_and_without_a_graph_agree_and_gradients_flow() -> None:
    backbone = tiny.backbone("gemma3-hybrid")
    plan = make_plan(backbone, ["Word: Juni\nKind:", "Word: May\nKind:"], [" month", " organ ic"])
    factors = {n: v.requires_grad_() for n, v in init_lora(backbone, LoraSpec(), 0).items()}
    with_graph = score(backbone, plan, adapter=Adapter(factors, 2.0))
    found = torch.autograd.grad(with_graph.sum(), list(factors.values()), allow_unused=True)
    assert any(g is not None and bool(g.abs().sum() > 0) for g in found)
    with torch.no_grad():
        without = score(backbone, plan, adapter=Adapter(factors, 2.0))
    torch.testing.assert_close(without, with_graph.detach(), atol=1e-5, rtol=0)


def once_and_twice(linear: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a map's value, a gradient through it, and the derivative of that gradient's size."""
    leaf = x.clone().requires_grad_()
    out = linear(linear(leaf).sin().mT.contiguous().mT)
    (first,) = torch.autograd.grad(out.square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    return out.detach(), first.detach(), second


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_frozen_product_is_a_plain_one_once_and_twice_differentiated(
    dtype: torch.dtype, with_bias: bool
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 8, generator=draw).to(dtype)
    weight = torch.randn(8, 8, generator=draw).to(dtype)
    bias = torch.randn(8, generator=draw).to(dtype) if with_bias else None
    short = once_and_twice(lambda v: products.Product.apply(v, weight, bias), x)
    plain = once_and_twice(lambda v: torch.nn.functional.linear(v, weight, bias), x)
    torch.testing.assert_close(short, plain, rtol=1e-4, atol=1e-3)


def test_a_gradient_that_is_a_stretched_number_goes_through() -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    x = torch.ones(2, 4, requires_grad=True)
    (found,) = torch.autograd.grad(products.Product.apply(x, weight, None).sum(), x)
    torch.testing.assert_close(found, weight.sum(0).expand(2, 4))


def test_frozen_maps_take_the_short_way_under_a_graph_and_others_their_own() -> None:
    backbone = tiny.backbone("llama")
    module = backbone.layers[0].mlp.up_proj
    x = torch.randn(1, 5, module.in_features, generator=torch.Generator().manual_seed(0))
    if not products._fits(x, module.weight):
        pytest.skip("this torch has no oneDNN")
    x.requires_grad_()
    names = []
    with activate(ForwardState(make_plan(backbone, ["Word: May\nKind:"], [" month"]).layout)):
        names.append(module(x).grad_fn.name())
        module.weight.requires_grad_()
        names.append(module(x).grad_fn.name())
        module.weight.requires_grad_(False)
    names.append(module(x).grad_fn.name())
    assert names[0] == "ProductBackward"
    assert "ProductBackward" not in names[1:]


def test_meta_gradients_are_those_of_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny.backbone("gemma3-hybrid")
    plan = make_plan(backbone, ["Word: Juni\nKind:", "Word: May\nKind:"], [" month", " organ ic"])
    draw = torch.Generator().manual_seed(1)
    start = {
        n: v + 0.1 * torch.randn(v.shape, generator=draw)
        for n, v in init_lora(backbone, LoraSpec(), 0).items()
    }

    def meta() -> Tensor:
        """Return the gradient through one step of descent, all factors together."""
        leaves = {n: v.clone().requires_grad_() for n, v in start.items()}
        inner = score(backbone, plan, adapter=Adapter(leaves, 2.0))[:, 0].sum()
        steps = torch.autograd.grad(inner, list(leaves.values()), create_graph=True)
        moved = {n: v + 0.05 * g for (n, v), g in zip(leaves.items(), steps, strict=True)}
        outer = score(backbone, plan, adapter=Adapter(moved, 2.0))[:, 1].sum()
        found = torch.autograd.grad(outer, list(leaves.values()))
        return torch.cat([g.flatten() for g in found])

    short = meta()
    monkeypatch.setattr(products, "_fits", lambda *_: False)
    plain = meta()
    assert float((short - plain).norm() / plain.norm()) < 1e-4

"""Products without a graph go another way and give the same numbers; gradients are untouched."""

from __future__ import annotations

import pytest
import torch

from icl.models import products
from icl.models.lora import Adapter, LoraSpec, init_lora
from icl.models.scorer import make_plan, score
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

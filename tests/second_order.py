"""Meta-gradients of second order, by automatic differentiation through steps on an adapter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.models.adapters.lora import Adapter, LoraSpec, Variant
from icl.models.adapters.lora_start import init_lora
from icl.models.backbone import Backbone
from icl.models.scoring.scorer import make_plan, score


def meta_gradient(
    backbone: Backbone,
    prompts: Sequence[str],
    answers: Sequence[str],
    variant: Variant = "lora",
    rate: float = 0.01,
) -> Tensor:
    """Return the gradient for all factors of one query's loss after two steps on another's."""
    spec = LoraSpec(rank=2, start="orthogonal", variant=variant)
    start = {name: f.requires_grad_() for name, f in init_lora(backbone, spec, seed=0).items()}
    plan = make_plan(backbone, prompts, answers)
    factors = start
    for _ in range(2):
        loss = -score(backbone, plan, adapter=Adapter(factors, spec.scale))[0, 0] / 10
        steps = torch.autograd.grad(loss, list(factors.values()), create_graph=True)
        factors = {n: f - rate * g for (n, f), g in zip(factors.items(), steps, strict=True)}
    loss = -score(backbone, plan, adapter=Adapter(factors, spec.scale))[1, 1]
    found = torch.autograd.grad(loss, list(start.values()))
    return torch.cat([gradient.flatten() for gradient in found])

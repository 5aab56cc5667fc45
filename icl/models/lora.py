"""LoRA as values: factors by name, with or without a task axis (Hu et al. 2021, arXiv 2106.09685).

A linear map ``W x`` becomes ``W x + (alpha / rank) B A x``. The factors live in a mapping
``{"<module>.lora_A": A, "<module>.lora_B": B}`` that is passed to each forward pass: adapting to a
task makes a new mapping and changes nothing. ``A`` has shape (rank, in) and ``B`` (out, rank); with
a task axis (tasks, rank, in) and (tasks, out, rank), and each task's packed rows meet its factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icl.errors import IclError

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Factors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA factors by name, and the ``alpha / rank`` that multiplies their product."""

    factors: Factors
    scale: float


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Which linear maps carry LoRA, and of which size.

    Attributes:
        rank: columns of A's output.
        alpha: the update is multiplied by ``alpha / rank``.
        targets: the last part of the adapted modules' names, e.g. ``("q_proj", "v_proj")``.
        top_layers: adapt only so many of the uppermost layers; None for all.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    top_layers: int | None = None

    @property
    def scale(self) -> float:
        """The factor ``alpha / rank``."""
        return self.alpha / self.rank


def adapted_modules(backbone: Backbone, spec: LoraSpec) -> dict[str, tuple[int, int]]:
    """Return (in, out) sizes of the modules that a spec adapts, by module path.

    Raises:
        IclError: a target names no linear map of this model.
    """
    from icl.models.backbone import is_linear

    count = len(backbone.layers)
    first = 0 if spec.top_layers is None else max(0, count - spec.top_layers)
    found: dict[str, tuple[int, int]] = {}
    for layer_name, layer in list(zip(backbone.layer_names, backbone.layers, strict=True))[first:]:
        for name, module in layer.named_modules():
            if is_linear(module) and name.rsplit(".", 1)[-1] in spec.targets:
                out_size, in_size = module.weight.shape
                if type(module).__name__ == "Conv1D":
                    out_size, in_size = in_size, out_size
                found[f"{layer_name}.{name}"] = (in_size, out_size)
    missing = set(spec.targets) - {name.rsplit(".", 1)[-1] for name in found}
    if missing:
        linear = {
            name.rsplit(".", 1)[-1]
            for name, module in backbone.layers[-1].named_modules()
            if is_linear(module)
        }
        raise IclError(
            f"The model {backbone.name!r} has no linear map named {sorted(missing)}; "
            f"set `targets` to some of {sorted(linear)}."
        )
    return found


def lowest_layer(backbone: Backbone, factors: Factors) -> int:
    """Return the index of the lowest layer that some factors touch."""
    for index, layer_name in enumerate(backbone.layer_names):
        if any(name.startswith(layer_name + ".") for name in factors):
            return index
    return len(backbone.layers)


def init_lora(backbone: Backbone, spec: LoraSpec, seed: int) -> dict[str, Tensor]:
    """Draw LoRA factors as the paper does: A Kaiming-uniform, B zero; float32, no task axis."""
    generator = torch.Generator().manual_seed(seed)
    factors: dict[str, Tensor] = {}
    for name, (in_size, out_size) in adapted_modules(backbone, spec).items():
        bound = 1 / math.sqrt(in_size)  # Kaiming-uniform with a = sqrt(5), as in PEFT
        a = torch.empty(spec.rank, in_size).uniform_(-bound, bound, generator=generator)
        factors[f"{name}.lora_A"] = a.to(backbone.device)
        factors[f"{name}.lora_B"] = torch.zeros(out_size, spec.rank, device=backbone.device)
    return factors


def lora_delta(adapter: Adapter, name: str, x: Tensor, tasks: Sequence[int]) -> Tensor | None:
    """Return what an adapter adds to the output of a linear map, or None where it adds nothing.

    Args:
        adapter: the factors; with a task axis where `tasks` is given.
        name: the linear map's module path.
        x: the map's input, shape (1, rows, in) or, of a padded batch, (texts, length, in).
        tasks: rows of each task, in order; they add up to `rows` or to texts x length.

    Returns:
        The addition, shape (..., out), in x's dtype; the product is taken in the factors'.
    """
    a = adapter.factors.get(f"{name}.lora_A")
    if a is None:
        return None
    b = adapter.factors[f"{name}.lora_B"]
    inputs = x.to(a.dtype)
    if not tasks:
        out = inputs @ a.T @ b.T
    elif len(set(tasks)) == 1:
        stacked = inputs.reshape(len(tasks), tasks[0], -1)
        out = stacked @ a.transpose(1, 2) @ b.transpose(1, 2)
        out = out.reshape(*x.shape[:-1], -1)
    else:
        pieces = torch.split(inputs.flatten(0, -2), list(tasks))
        out = torch.cat([p @ at.T @ bt.T for p, at, bt in zip(pieces, a, b, strict=True)])
        out = out.reshape(*x.shape[:-1], -1)
    return (adapter.scale * out).to(x.dtype)


def default_targets(backbone: Backbone) -> tuple[str, ...]:
    """Return the linear maps that PEFT adapts by default for this architecture.

    Raises:
        IclError: PEFT has no default for it.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    kind = backbone.model.config.model_type
    if kind not in KNOWN:
        raise IclError(
            f"There is no default LoRA target for {kind!r} models; set `targets`, e.g. "
            "[q_proj, v_proj]."
        )
    return tuple(KNOWN[kind])

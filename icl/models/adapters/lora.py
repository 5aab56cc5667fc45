"""LoRA as values: factors by name, with or without a task axis (Hu et al. 2021, arXiv 2106.09685).

A linear map ``W x`` becomes ``W x + (alpha / rank) B A x``. The factors live in a mapping
``{"<module>.lora_A": A, "<module>.lora_B": B}`` that is passed to each forward pass: adapting to a
task makes a new mapping and changes nothing. ``A`` has shape (rank, in) and ``B`` (out, rank); with
a task axis (tasks, rank, in) and (tasks, out, rank), and each task's packed rows meet its factors.

rsLoRA (Kalajdzievski 2023, arXiv 2312.03732) scales by ``alpha / sqrt(rank)``. DoRA (Liu et al.
2024, arXiv 2402.09353) has a third factor, a magnitude for each output: the adapted weight
``W + s B A`` is scaled to rows of that norm. PEFT takes the norm as a constant when it
differentiates; here its derivative is taken too, so that gradients are those of the function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from icl.errors import IclError
from icl.models.weights.devices import is_fetched

Factors = Mapping[str, Tensor]
Variant = Literal["lora", "rslora", "dora"]
Start = Literal["zero", "orthogonal"]
MAGNITUDE = "lora_magnitude_vector"


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
        variant: ``lora``; ``rslora`` scales by ``alpha / sqrt(rank)``; ``dora`` adds magnitudes.
        start: ``zero``: A random, B zero, so that the first inner gradient on A is zero.
            ``orthogonal``: neither is zero and yet ``B A = 0``, so that the start is the base
            model and every factor moves at once; needs an even rank.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    top_layers: int | None = None
    variant: Variant = "lora"
    start: Start = "zero"

    @property
    def scale(self) -> float:
        """The factor ``alpha / rank``, for rsLoRA ``alpha / sqrt(rank)``."""
        return self.alpha / (math.sqrt(self.rank) if self.variant == "rslora" else self.rank)


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear map that LoRA can adapt."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(module: nn.Module) -> Tensor:
    """Return a linear map's weight, shape (out, in).

    Raises:
        IclError: it is quantised, or only there while its module runs.
    """
    weight: Tensor = module.weight  # type: ignore[assignment]
    if is_fetched(module) or not weight.is_floating_point():
        raise IclError(
            "DoRA needs the weights themselves; take `variant: lora`, or no `quantise` and a"
            " `device_map` without `cpu` and `disk`."
        )
    return weight.T if type(module).__name__ == "Conv1D" else weight


def adapted_output(
    adapter: Adapter, name: str, module: nn.Module, x: Tensor, output: Tensor, tasks: Sequence[int]
) -> Tensor | None:
    """Return the output of an adapted linear map, or None where the adapter leaves it alone.

    Args:
        adapter, name, x, tasks: see `with_lora`.
        module: the linear map.
        output: what it gives by itself, shape (..., out).
    """
    linear = with_lora(adapter, name, x, output, tasks)
    magnitude = adapter.factors.get(f"{name}.{MAGNITUDE}")
    if linear is None or magnitude is None:
        return linear
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    linear = linear if bias is None else linear - bias
    weight = weight_of(module).to(magnitude.device)
    ratio = (magnitude / _adapted_norm(adapter, name, weight)).to(x.device)
    if tasks:
        counts = torch.tensor(tasks, device=ratio.device)
        ratio = ratio.repeat_interleave(counts, 0).reshape(*x.shape[:-1], -1)
    scaled = linear * ratio.to(linear.dtype)
    return scaled if bias is None else scaled + bias


def _adapted_norm(adapter: Adapter, name: str, weight: Tensor) -> Tensor:
    """Return the row norms of ``W + s B A``, shape (..., out), without making that matrix.

    ``|w + s b A|^2 = |w|^2 + 2 s (w A') b' + s^2 (b A A') b'`` for a row w of W and b of B.
    """
    a, b = adapter.factors[f"{name}.lora_A"], adapter.factors[f"{name}.lora_B"]
    weight = weight.to(a.dtype)
    cross = ((weight @ a.mT) * b).sum(-1)
    own = ((b @ (a @ a.mT)) * b).sum(-1)
    squared = weight.square().sum(-1) + 2 * adapter.scale * cross + adapter.scale**2 * own
    return squared.clamp_min(torch.finfo(a.dtype).tiny).sqrt()


def with_lora(
    adapter: Adapter, name: str, x: Tensor, output: Tensor, tasks: Sequence[int]
) -> Tensor | None:
    """Return ``output + scale B A x``, or None where the adapter leaves a linear map alone.

    Args:
        adapter: the factors; with a task axis where `tasks` is given.
        name: the linear map's module path.
        x: the map's input, shape (1, rows, in) or, of a padded batch, (texts, length, in).
        output: what the map gives by itself, shape (..., out).
        tasks: rows of each task, in order; they add up to `rows` or to texts x length.

    Returns:
        Shape (..., out), in the output's dtype; the product is taken in the factors'.
    """
    a = adapter.factors.get(f"{name}.lora_A")
    if a is None:
        return None
    a, b = a.to(x.device), adapter.factors[f"{name}.lora_B"].to(x.device)
    inputs, base = x.to(a.dtype).flatten(0, -2), output.to(a.dtype).flatten(0, -2)
    scale = adapter.scale
    if not tasks:
        out = torch.addmm(base, inputs @ a.T, b.T, alpha=scale)
    elif len(set(tasks)) == 1:
        inputs, base = (t.reshape(len(tasks), tasks[0], -1) for t in (inputs, base))
        out = torch.baddbmm(base, inputs @ a.mT, b.mT, alpha=scale)
    else:
        parts = (torch.split(t, list(tasks)) for t in (inputs, base))
        each = zip(*parts, a, b, strict=True)
        out = torch.cat([torch.addmm(y, p @ at.T, bt.T, alpha=scale) for p, y, at, bt in each])
    return out.reshape(output.shape).to(output.dtype)

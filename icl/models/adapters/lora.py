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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from icl.errors import IclError
from icl.models.parts import text_config
from icl.models.weights.devices import is_fetched

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Factors = Mapping[str, Tensor]
Variant = Literal["lora", "rslora", "dora"]
Start = Literal["zero", "orthogonal"]
MAGNITUDE = "lora_magnitude_vector"
_ATTENTION = re.compile(r"att", re.IGNORECASE)  # attn, attention, self_attn, SelfAttention
_FUSED = re.compile(r"qkv|query_key_value|c_attn|in_proj", re.IGNORECASE)
_QUERY = re.compile(r"w?q(uery)?(_(?!global)|$)", re.IGNORECASE)  # Longformer's goes unused
_VALUE = re.compile(r"w?k?v(alue)?(_(?!global)|$)", re.IGNORECASE)  # DeepSeek has k and v in one


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


def adapted_modules(backbone: Backbone, spec: LoraSpec) -> dict[str, tuple[int, int]]:
    """Return (in, out) sizes of the modules that a spec adapts, by module path.

    Raises:
        IclError: a target names no linear map of this model.
    """
    from icl.models.backbone import is_linear

    blocks = backbone.blocks if spec.top_layers is None else backbone.top(spec.top_layers)
    found: dict[str, tuple[int, int]] = {}
    for block_name, block in blocks.items():
        for name, module in block.named_modules():
            if is_linear(module) and name.rsplit(".", 1)[-1] in spec.targets:
                if type(module).__name__ == "Conv1D":
                    in_size, out_size = module.weight.shape
                else:  # a quantised weight's shape tells nothing
                    in_size, out_size = module.in_features, module.out_features
                found[f"{block_name}.{name}".lstrip(".")] = (in_size, out_size)
    linear = {path.rsplit(".", 1)[-1] for path in linear_maps(backbone)}
    missing = set(spec.targets) - linear
    if missing or (spec.targets and not found):
        where = "" if missing else f" in its upper {spec.top_layers} layers"
        raise IclError(
            f"The model {backbone.name!r} has no linear map named"
            f" {sorted(missing or spec.targets)}{where}; set `targets` to some of {sorted(linear)}."
        )
    return found


def linear_maps(backbone: Backbone) -> list[str]:
    """Return the paths of the linear maps that LoRA can adapt."""
    from icl.models.backbone import is_linear

    return [
        f"{block_name}.{name}".lstrip(".")
        for block_name, block in backbone.blocks.items()
        for name, module in block.named_modules()
        if is_linear(module)
    ]


def lowest_layer(backbone: Backbone, factors: Factors) -> int:
    """Return the index of the lowest layer that some factors touch; 0 where all must run."""
    if not backbone.staged:
        return 0
    for index, layer_name in enumerate(backbone.layer_names):
        if any(name.startswith(layer_name + ".") for name in factors):
            return index
    return len(backbone.layers)


def init_lora(backbone: Backbone, spec: LoraSpec, seed: int) -> dict[str, Tensor]:
    """Draw LoRA factors; float32, no task axis. At the start the adapted model is the base model.

    Raises:
        IclError: an orthogonal start with an odd rank.
    """
    if spec.start == "orthogonal" and spec.rank % 2:
        raise IclError(f"An orthogonal start needs an even rank, not {spec.rank}; set `rank`.")
    generator = torch.Generator().manual_seed(seed)
    draw = _orthogonal if spec.start == "orthogonal" else _zero
    factors: dict[str, Tensor] = {}
    for name, (in_size, out_size) in adapted_modules(backbone, spec).items():
        a, b = draw(in_size, out_size, spec.rank, generator)
        factors[f"{name}.lora_A"] = a.to(backbone.device)
        factors[f"{name}.lora_B"] = b.to(backbone.device)
        if spec.variant == "dora":
            norms = _weight(backbone.model.get_submodule(name)).float().norm(dim=1)
            factors[f"{name}.{MAGNITUDE}"] = norms.to(backbone.device)
    return factors


def _zero(
    in_size: int, out_size: int, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A Kaiming-uniform with a = sqrt(5), as in PEFT, and B zero."""
    bound = 1 / math.sqrt(in_size)
    a = torch.empty(rank, in_size).uniform_(-bound, bound, generator=generator)
    return a, torch.zeros(out_size, rank)


def _orthogonal(
    in_size: int, out_size: int, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A and B over two halves of an orthogonal basis of the rank: ``B A = 0``, both of A's size."""
    basis, _ = torch.linalg.qr(torch.randn(rank, rank, generator=generator))
    size = 1 / math.sqrt(3 * in_size)  # the standard deviation of the uniform start
    a = basis[:, ::2] @ torch.randn(rank // 2, in_size, generator=generator)
    b = torch.randn(out_size, rank // 2, generator=generator) @ basis[:, 1::2].T
    return a * (size * math.sqrt(2)), b * (size * math.sqrt(2))


def _weight(module: nn.Module) -> Tensor:
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
    weight = _weight(module).to(magnitude.device)
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
        out = torch.cat(
            [
                torch.addmm(y, p @ at.T, bt.T, alpha=scale)
                for p, y, at, bt in zip(*parts, a, b, strict=True)
            ]
        )
    return out.reshape(output.shape).to(output.dtype)


def default_targets(backbone: Backbone) -> tuple[str, ...]:
    """Return the last parts of the linear maps' names that are adapted where none are named.

    Those of PEFT's own table, where it knows the architecture; else, as that table mostly has it,
    the maps to queries and values, or the one that makes them all, found by their names inside
    modules that are called attention; else all linear maps of these, or of a layer.

    Raises:
        IclError: there is no linear map in any layer.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    paths = linear_maps(backbone)
    last = [path.rpartition(".")[2] for path in paths]
    for kind in (backbone.model.config.model_type, text_config(backbone.model).model_type):
        known = KNOWN.get(kind)
        if isinstance(known, str):  # a pattern for whole paths
            known = [n for n, path in zip(last, paths, strict=True) if re.fullmatch(known, path)]
        if known and set(known) <= set(last):
            return tuple(dict.fromkeys(known))
    inside = [n for n, path in zip(last, paths, strict=True) if _ATTENTION.search(path)]
    found = _query_and_value(inside) or inside or last
    if not found:
        raise IclError(
            f"The model {backbone.name!r} ({type(backbone.model).__name__}) has no linear maps in"
            " its layers that LoRA could adapt; take a method on embeddings."
        )
    return tuple(dict.fromkeys(found))


def _query_and_value(names: list[str]) -> list[str]:
    fused = [name for name in names if _FUSED.search(name)]
    query = [name for name in names if _QUERY.match(name)]
    value = [name for name in names if _VALUE.match(name)]
    return [n for n in names if n in {*query, *value}] if query and value else fused

"""Where LoRA can stand in a model, and with which factors it begins."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.adapters.lora import MAGNITUDE, Factors, LoraSpec, is_linear, weight_of
from icl.models.parts import text_config

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

_ATTENTION = re.compile(r"att", re.IGNORECASE)  # attn, attention, self_attn, SelfAttention
_FUSED = re.compile(r"qkv|query_key_value|c_attn|in_proj", re.IGNORECASE)
_QUERY = re.compile(r"w?q(uery)?(_(?!global)|$)", re.IGNORECASE)  # Longformer's goes unused
_VALUE = re.compile(r"w?k?v(alue)?(_(?!global)|$)", re.IGNORECASE)  # DeepSeek has k and v in one


def adapted_modules(backbone: Backbone, spec: LoraSpec) -> dict[str, tuple[int, int]]:
    """Return (in, out) sizes of the modules that a spec adapts, by module path.

    Raises:
        IclError: a target names no linear map of this model.
    """
    found: dict[str, tuple[int, int]] = {}
    for path, module in linear_maps(backbone, spec.top_layers).items():
        if path.rsplit(".", 1)[-1] in spec.targets:
            if type(module).__name__ == "Conv1D":
                in_size, out_size = module.weight.shape
            else:  # a quantised weight's shape tells nothing
                in_size, out_size = module.in_features, module.out_features
            found[path] = (in_size, out_size)
    linear = {path.rsplit(".", 1)[-1] for path in linear_maps(backbone)}
    missing = set(spec.targets) - linear
    if missing or (spec.targets and not found):
        where = "" if missing else f" in its upper {spec.top_layers} layers"
        raise IclError(
            f"The model {backbone.name!r} has no linear map named"
            f" {sorted(missing or spec.targets)}{where}; set `targets` to some of {sorted(linear)}."
        )
    return found


def linear_maps(backbone: Backbone, top_layers: int | None = None) -> dict[str, Any]:
    """Return the linear maps that LoRA can adapt, by path: of all layers, or the uppermost."""
    blocks = backbone.blocks if top_layers is None else backbone.top(top_layers)
    return {
        f"{block_name}.{name}".lstrip("."): module
        for block_name, block in blocks.items()
        for name, module in block.named_modules()
        if is_linear(module)
    }


def default_targets(backbone: Backbone) -> tuple[str, ...]:
    """Return the last parts of the linear maps' names that are adapted where none are named.

    Those of PEFT's own table, where it knows the architecture; else, as that table mostly has it,
    the maps to queries and values, or the one that makes them all, found by their names inside
    modules that are called attention; else all linear maps of these, or of a layer.

    Raises:
        IclError: there is no linear map in any layer.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    paths = list(linear_maps(backbone))
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
            norms = weight_of(backbone.model.get_submodule(name)).float().norm(dim=1)
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

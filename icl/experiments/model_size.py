"""How large a model is, by its files alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icl.errors import IclError
from icl.experiments.model_config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EACH = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes of a number


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model's files say of its size.

    Attributes:
        parameters: all of them.
        working: those that each token meets.
        bytes: that the weights take.
        layers: how many.
        encoder: whether it is one.
    """

    parameters: int
    working: int
    bytes: int
    layers: int
    encoder: bool


def look_at(model: ModelConfig) -> tuple[PreTrainedTokenizerBase | None, ModelSize | None]:
    """Return a model's tokenizer and size, where its files are at hand; no weight is loaded."""
    from huggingface_hub import try_to_load_from_cache
    from safetensors import safe_open
    from transformers import AutoConfig

    from icl.models.loading.load import is_encoder, load_tokenizer
    from icl.models.loading.named import model_path

    if model.server is not None:
        return None, None
    try:
        tokenizer = load_tokenizer(model.name, revision=model.revision)
    except IclError:
        return None, None
    path = Path(model_path(model.name))
    if not path.is_dir():
        found = try_to_load_from_cache(model.name, "config.json", revision=model.revision)
        path = Path(found).parent if isinstance(found, str) else path
    number = tables = 0
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                size = math.prod(tensors.get_slice(name).get_shape())
                number += size
                tables += size * ("embed" in name or "lm_head" in name or "wte" in name)
    if not number:
        return tokenizer, None
    try:  # a plan runs no code of the repository's, whatever the experiment says
        said = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError):
        return tokenizer, None
    layers = said.get_text_config().num_hidden_layers
    size = number * _EACH[model.dtype]
    return tokenizer, ModelSize(number, number - tables, size, layers, is_encoder(said))

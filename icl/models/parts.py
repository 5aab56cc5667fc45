"""Which part of a model reads text: its module, its configuration, and its layers.

A multimodal model (Gemma 3 from 4B up, Qwen-VL, LLaVA) holds a text model beside towers for images
or sound, with a configuration of its own. Sizes are read there, and only that part is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def text_config(model: PreTrainedModel) -> Any:
    """Return the configuration of the part that reads text."""
    config: Any = model.config
    return config.get_text_config()


def text_part(model: PreTrainedModel) -> nn.Module:
    """Return the part that maps tokens to states: what is below a head and beside other towers."""
    from transformers import PreTrainedModel

    own = type(text_config(model))
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for module in model.modules():  # the outermost first
        is_model = isinstance(module, PreTrainedModel) and isinstance(module.config, own)
        if is_model and not (head is not None and module is model):
            return module
    base: nn.Module = model.base_model
    return base


def depth(model: PreTrainedModel) -> int:
    """Return how many layers the text part has."""
    return int(text_config(model).num_hidden_layers)


def layer_list(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the text part's layers, lowest first; None where they are in no list (ALBERT)."""
    count = depth(model)
    for module in text_part(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return None


def greatest(config: Any, name: str) -> int | None:
    """Return a size in a configuration, the greatest where layers differ (Gemma 3n, Gemma 4)."""
    parts = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    found = [getattr(part, name, None) for part in parts]
    sizes = [s for size in found for s in (size if isinstance(size, list | tuple) else [size])]
    return max((int(size) for size in sizes if size is not None), default=None)


def stream(states: Tensor) -> Tensor:
    """Return states, shape (texts, length, width); of Gemma 3n's several streams the active one."""
    return states[0] if states.dim() == 4 else states

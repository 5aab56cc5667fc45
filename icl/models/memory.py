"""How much memory a packed pass takes, how much there is, and what running out of it looks like."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import torch

from icl.models.parts import greatest, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHARE = 0.5  # of what is free: other work and the allocator's fragments need the rest


def bytes_per_row(model: PreTrainedModel) -> int:
    """Estimate the memory that one packed token needs at the widest point of a layer, in bytes.

    The feed-forward part holds about three rows of its inner width, attention about six of all
    heads' width (queries, keys, values, blocks, their merge), the residual stream four.
    """
    config = text_config(model)
    width: int = config.hidden_size
    inner = greatest(config, "intermediate_size") or 4 * width
    heads = greatest(config, "num_attention_heads") or 1
    size = greatest(config, "head_dim") or width // heads
    element = next(model.parameters()).element_size()
    return int(element * (4 * width + 3 * inner + 6 * heads * size))


def free_bytes(device: torch.device) -> int:
    """Return the memory that a pass may take on a device: half of what is free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _SHARE)
    import psutil

    return int(psutil.virtual_memory().available * _SHARE)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; on the CPU torch has no class for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
    return isinstance(error, RuntimeError) and any(words in text for words in said)

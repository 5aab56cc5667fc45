"""How much memory a packed pass takes, how much there is, and what running out of it looks like."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from icl.models.parts import greatest, text_config

Result = TypeVar("Result")

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

_SHARE = 0.5  # of what is free: other work and the allocator's fragments need the rest


def bytes_per_row(backbone: Backbone) -> int:
    """Estimate the memory that one packed token needs at the widest point of a layer, in bytes.

    The feed-forward part holds about three rows of its inner width, attention about six of all
    heads' width (queries, keys, values, blocks, their merge), the residual stream four.
    """
    config = text_config(backbone.model)
    width: int = config.hidden_size
    inner = greatest(config, "intermediate_size") or 4 * width
    heads = greatest(config, "num_attention_heads") or 1
    size = greatest(config, "head_dim") or width // heads
    element = next(backbone.model.parameters()).element_size()
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


def within_memory(
    backbone: Backbone,
    prompts: Sequence[str],
    prepare: Callable[[Sequence[str]], tuple[int, Callable[[], Result]]],
) -> list[Result]:
    """Run prompts in as few batches as memory allows, in order.

    Args:
        backbone: whose budget holds.
        prompts: one or more.
        prepare: for some of them, the bytes that running them takes, and how to run them.

    Returns:
        The batches' results. A batch is halved where it needs more than the budget, and where
        memory runs out all the same, which is said; a single prompt is always tried.
    """
    needed, run = prepare(prompts)
    alone = len(prompts) == 1
    if alone or needed <= backbone.budget():
        try:
            return [run()]
        except (RuntimeError, MemoryError) as error:
            if alone or not is_out_of_memory(error):
                raise
        backbone.memory_budget = needed // 2  # the most that later batches may ask for
        warnings.warn(
            f"Memory ran out on {len(prompts)} prompts at once; going on with half as many.",
            stacklevel=3,
        )
    middle = len(prompts) // 2
    return [
        result
        for half in (prompts[:middle], prompts[middle:])
        for result in within_memory(backbone, half, prepare)
    ]

"""A model held in another dtype for a while, for checks that rounding must not decide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icl.models.memory import free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HALVES = (torch.float16, torch.bfloat16)


@contextmanager
def held_in(
    dtype: torch.dtype, model: PreTrainedModel, chosen: Callable[[Tensor], bool]
) -> Iterator[None]:
    """Hold some of a model's tensors in a dtype; afterwards each has its own again.

    What is quantised multiplies meanwhile by the weights that it stands for: 8 bits round
    activations too, by what else is in the batch, and 4 bits have no products in float64.

    Args:
        dtype: in which every number of the tensors' own dtypes is exact.
        model: the model.
        chosen: says which tensors.
    """
    # Names stay: where weights are fetched at each pass, their tensors are others every time.
    before = {name: t.dtype for name, t in _tensors(model) if chosen(t)}
    own = [(m, m.__dict__.get("forward")) for m in model.modules() if is_quantised(m)]
    try:
        for name, tensor in _tensors(model):
            if name in before:
                tensor.data = tensor.data.to(dtype)
        for module, _ in own:
            module.__dict__["forward"] = partial(_exact, module)
        yield
    finally:
        for name, tensor in _tensors(model):
            if name in before:
                tensor.data = tensor.data.to(before[name])
        for module, forward in own:
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


@contextmanager
def widened(model: PreTrainedModel) -> Iterator[torch.dtype]:
    """Hold a model's half-precision tensors in float32, if they fit; yield the dtype it then has.

    Every bfloat16 and float16 number is a float32 number, so afterwards all is as it was.
    """
    more: defaultdict[torch.device, int] = defaultdict(int)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in _HALVES:
            more[tensor.device] += 2 * tensor.nbytes
    fits = all(size <= free_bytes(device) for device, size in more.items() if device.type != "meta")
    with held_in(torch.float32, model, lambda t: fits and t.dtype in _HALVES):
        yield model.dtype


def is_quantised(module: nn.Module) -> bool:
    """Tell whether a module is a linear map that bitsandbytes holds in few bits."""
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _exact(module: Any, x: Tensor) -> Tensor:
    from peft.utils.integrations import dequantize_bnb_weight

    weight = dequantize_bnb_weight(module.weight, getattr(module, "state", None))
    bias = None if module.bias is None else module.bias.to(x)
    return nn.functional.linear(x, weight.to(x), bias)

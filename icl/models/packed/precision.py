"""The precision of scores: float32 where the model is in less, float64 where it is in that."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision to float32; leave float64, in which gradients are checked, alone."""
    return values if values.dtype == torch.float64 else values.float()

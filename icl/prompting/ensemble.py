"""Ensembles: the mean of probabilities over prompts that say the same in other ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def averaged(members: Sequence[Tensor]) -> Tensor:
    """Return ``log mean_m p_m(y | x)`` of normalised log-probabilities, (queries, labels)."""
    if len(members) == 1:
        return members[0]
    stacked = torch.stack(list(members))
    return (stacked.logsumexp(0) - math.log(len(members))).log_softmax(1)

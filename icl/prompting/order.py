"""In which order demonstrations are shown.

By entropy: Lu et al. 2022, "Fantastically ordered prompts" (arXiv 2104.08786). A good order is one
under which the model does not answer everything alike. It is judged on a probing set that the model
itself writes after the demonstrations, whose labels are thrown away; no query is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from icl.prompting.scoring import Query, Scorer
from icl.prompting.seeds import shuffled
from icl.prompting.similar import Floats
from icl.tasks.task import Example
from icl.tasks.template import Fields

Order = Literal["given", "random", "similarity", "global-entropy", "local-entropy"]
BY_ENTROPY: frozenset[str] = frozenset({"global-entropy", "local-entropy"})


def nearest_last(shown: Sequence[Example], similarity: Floats) -> tuple[Example, ...]:
    """Put the most similar demonstration last, next to the query (Liu et al. 2022).

    Args:
        shown: the demonstrations.
        similarity: of each to the query, shape (demonstrations,).
    """
    return tuple(shown[i] for i in np.argsort(similarity, kind="stable"))


def candidates(shown: Sequence[Example], count: int, seed: int) -> list[tuple[Example, ...]]:
    """Return different random orders, at most `count`; they depend on the seed and the set.

    Lu et al. 2022 try 24, all orders of four demonstrations.
    """
    found: dict[tuple[str, ...], tuple[Example, ...]] = {}
    for attempt in range(4 * count):  # few demonstrations have few orders
        order = shuffled(shown, seed, "order", attempt)
        found.setdefault(tuple(e.id for e in order), order)
        if len(found) == count:
            break
    return list(found.values())


def global_entropy(log_probs: Tensor) -> float:
    """Return the entropy, in nats, of how often each label is predicted over the probing set.

    A tie counts evenly for all labels in it. `log_probs` has shape (probes, labels).
    """
    best = (log_probs == log_probs.amax(1, keepdim=True)).double()
    share = (best / best.sum(1, keepdim=True)).mean(0)
    return float(torch.special.entr(share).sum())


def local_entropy(log_probs: Tensor) -> float:
    """Return the mean entropy, in nats, of the label distributions, (probes, labels)."""
    return float(torch.special.entr(log_probs.double().exp()).sum(1).mean())


def best_order(
    scorer: Scorer,
    orders: Sequence[tuple[Example, ...]],
    probes: Sequence[Fields],
    by: Order,
) -> tuple[Example, ...]:
    """Return the order with the highest entropy on the probing set; of equals the earlier."""
    measure = global_entropy if by == "global-entropy" else local_entropy
    asked = [Query(order, fields) for order in orders for fields in probes]
    found = scorer.log_probs(asked).reshape(len(orders), len(probes), -1)
    values = [round(measure(log_probs), 9) for log_probs in found]
    return orders[values.index(max(values))]

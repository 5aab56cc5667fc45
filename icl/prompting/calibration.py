"""Calibration: what a prompt makes of no input at all is taken out of what it makes of an input.

All forms subtract a bias from each label's log-probability and normalise again::

    log q(y | x) = log p(y | x) - b(y) + constant

- contextual (Zhao et al. 2021, arXiv 2102.09690): ``b(y) = log mean_c p(y | D, c)`` over the
  content-free inputs "N/A", "" and "[MASK]".
- domain-context (Fei et al. 2023, arXiv 2305.19148): the same over texts of random words from the
  support set, as long as its texts are.
- batch (Zhou et al. 2023, arXiv 2309.17249): ``b(y) = log mean_x p(y | D, x)`` over the queries
  themselves: the mean is one of probabilities, by which they are divided, not one of logarithms,
  which some implementations take. It sees all queries at once: it is transductive, and a query's
  answer depends on the others'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from icl.prompting.scoring import Query, Scorer, by_demonstrations
from icl.prompting.seeds import number
from icl.prompting.units import joined, pieces
from icl.tasks.task import Example
from icl.tasks.template import Fields

Calibration = Literal["none", "contextual", "domain", "batch"]
TRANSDUCTIVE: frozenset[str] = frozenset({"batch"})
CONTENT_FREE = ("N/A", "", "[MASK]")
_DOMAIN_TEXTS = 20


def calibrated(log_probs: Tensor, bias: Tensor) -> Tensor:
    """Subtract a bias, (labels,) or (queries, labels), and normalise: (queries, labels)."""
    return (log_probs - bias).log_softmax(1)


def prior_bias(scorer: Scorer, queries: Sequence[Query], free: Sequence[Fields]) -> Tensor:
    """Return ``log mean_c p(y | D, c)`` for each query's own demonstrations, (queries, labels).

    Args:
        scorer: what scores the labels.
        queries: whose demonstrations D stand before the content-free inputs.
        free: the content-free inputs c.
    """
    groups = by_demonstrations(queries)
    asked = [Query(queries[places[0]].shown, fields) for places in groups for fields in free]
    found = scorer.log_probs(asked).reshape(len(groups), len(free), -1)
    biases = torch.zeros(len(queries), found.shape[2])
    for places, log_probs in zip(groups, found, strict=True):
        biases[places] = log_probs.logsumexp(0) - math.log(len(free))
    return biases


def batch_bias(log_probs: Tensor) -> Tensor:
    """Return ``log mean_x p(y | x)`` over the queries, shape (labels,)."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


def content_free(like: Fields) -> list[Fields]:
    """Return the inputs without content, with the fields of an example."""
    return [dict.fromkeys(like, text) for text in CONTENT_FREE]


def domain_inputs(support: Sequence[Example], seed: int) -> list[Fields]:
    """Return inputs of random words of the support set's inputs; no label is looked at.

    Each field's words come from that field and are as many as its texts have on average. They
    depend on the seed and the set of examples, not on their order.
    """
    ordered = sorted(support, key=lambda e: e.id)
    key = (seed, "domain", *(e.id for e in ordered))
    made: list[dict[str, str]] = [{} for _ in range(_DOMAIN_TEXTS)]
    for name in ordered[0].fields:
        texts = [pieces(e.fields.get(name, "")) for e in ordered]
        words = [word for text in texts for word in text]
        length = max(1, round(len(words) / len(texts)))
        for i, fields in enumerate(made):
            places = [number(*key, name, i, j) % len(words) for j in range(length if words else 0)]
            fields[name] = joined([words[place] for place in places])
    return list(made)

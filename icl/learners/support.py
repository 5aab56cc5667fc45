"""Support sets: their order, the labels that they have, and what to answer without one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.learners.base import LOG_ZERO, Predictor
from icl.models.embedding.embedding_store import content_key
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields


def in_order(support: Sequence[Example]) -> list[Example]:
    """Sort a support set by content, so that the order in which it was given decides nothing."""
    return sorted(support, key=lambda e: (content_key(e.text), e.label, e.id))


def present_columns(support: Sequence[Example], labels: Labels) -> list[int]:
    """Return the columns of the labels that have support, ascending."""
    return sorted({labels.index(example.label) for example in support})


def places(support: Sequence[Example], labels: Labels, columns: Sequence[int]) -> Tensor:
    """Return where each example's label stands among some columns, int64, shape (support,)."""
    place = {column: at for at, column in enumerate(columns)}
    return torch.tensor([place[labels.index(example.label)] for example in support])


def fill_columns(scores: Tensor, columns: Sequence[int], labels: Labels) -> Tensor:
    """Normalise scores of some columns, (queries, columns), over all; the others get no mass."""
    full = torch.full((len(scores), len(labels)), LOG_ZERO)
    full[:, list(columns)] = scores.log_softmax(1).cpu().float()
    return full.clamp_min(LOG_ZERO)


class Constant(Predictor):
    """Gives every text the same log-probabilities, shape (labels,)."""

    def __init__(self, log_probs: Tensor) -> None:
        """Take them."""
        self._log_probs = log_probs

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Return them for each text."""
        return self._log_probs.expand(len(texts), -1).clone()


def uniform(labels: Labels) -> Predictor:
    """Return the predictor of a learner that was shown nothing: every label alike."""
    return Constant(torch.zeros(len(labels)).log_softmax(0))

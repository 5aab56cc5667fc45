"""What meta-training is judged by on other tasks: what a learner then does at test."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.episodes import Episode
from icl.learners.base import Learner


def query_loss(learner: Learner, episodes: Sequence[Episode]) -> Tensor:
    """Return the mean negative log-probability of the queries' labels, a scalar without a graph.

    It is that of the predictor that the learner hands back for each support set, as at test, for
    every method: the same measure before and after whatever a method changes on the way, and not
    its meta-loss, which may be of another kind (a share of early steps, a squared error, words
    among the whole vocabulary, labels of a head that is dropped). Episodes weigh the same.
    """
    losses = []
    predictors = learner.adapt_batch([(e.support, e.labels) for e in episodes])
    for e, predictor in zip(episodes, predictors, strict=True):
        found = predictor.log_probs([query.fields for query in e.query])
        right = torch.tensor([[e.labels.index(query.label)] for query in e.query])
        losses.append(-found.gather(1, right).mean())
    return torch.stack(losses).mean().detach()

"""Many episodes over one table of embeddings: heads fitted and asked in cache-sized batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl.learners.embedding.heads.fitted import Fitted

_NUMBERS_AT_ONCE = 2**21  # vectors of a batch together: 8 MB, which stay in a processor's cache


def predict_rows(
    fit: Callable[[Tensor, Tensor], Fitted],
    table: Tensor,
    support: Tensor,
    wanted: Tensor,
    queries: Tensor,
) -> Tensor:
    """Predict the queries of many episodes of one shape whose texts are rows of a table.

    Args:
        fit: fits a head to (tasks, n, width) and (tasks, n).
        table: embeddings, shape (texts, width).
        support: rows of each episode's support, shape (episodes, n).
        wanted: the support's columns, (episodes, n).
        queries: rows of each episode's queries, (episodes, q).

    Returns:
        The best column of each query, int64, shape (episodes, q).
    """
    width = table.shape[1]
    episode = (support.shape[1] + queries.shape[1]) * width
    batch = max(1, _NUMBERS_AT_ONCE // episode)
    # one pair of buffers for all batches: fresh ones would cost page faults
    shown = torch.empty(batch * support.shape[1], width, dtype=table.dtype)
    asked = torch.empty(batch * queries.shape[1], width, dtype=table.dtype)
    found = torch.empty(queries.shape, dtype=torch.long)
    with torch.no_grad():
        for at in range(0, len(support), batch):
            s, q = support[at : at + batch], queries[at : at + batch]
            own, other = shown[: s.numel()], asked[: q.numel()]
            torch.index_select(table, 0, s.reshape(-1), out=own)
            torch.index_select(table, 0, q.reshape(-1), out=other)
            head = fit(own.view(*s.shape, width), wanted[at : at + batch])
            scores = head.scores(other.view(*q.shape, width)).contiguous()  # argmax is slow else
            torch.argmax(scores, -1, out=found[at : at + batch])
    return found

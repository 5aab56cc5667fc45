"""Nearness of examples to queries: by embeddings, or by shared words (BM25)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from icl.errors import IclError
from icl.models.context import joined
from icl.models.embedding.own_vectors import embedder_of, two_thirds_up
from icl.prompting.units import units
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Model

Floats = NDArray[np.float64]


def embeddings(backbone: Model, texts: Sequence[Fields]) -> Floats:
    """Embed texts as unit vectors, shape (texts, width).

    The states of the last token two thirds of the way up, where a causal model's states say most
    about what it has read; of a model without layers to look at, its own vectors.
    """
    embedder = embedder_of(backbone, two_thirds_up(backbone), "last")
    found = embedder.embed([text or " " for text in embedder.written(texts)])
    return torch.nn.functional.normalize(found, dim=1).double().numpy()


def nearest(similarity: Floats, count: int) -> list[int]:
    """Return the places of the highest values, highest first; of equals the earlier.

    Liu et al. 2022 (arXiv 2101.06804) show the nearest examples by cosine of embeddings.

    >>> nearest(np.array([0.1, 0.9, 0.9, 0.5]), 3)
    [1, 2, 3]
    """
    return [int(i) for i in np.argsort(-similarity, kind="stable")[:count]]


class BM25:
    """BM25 (Robertson & Zaragoza 2009) in Lucene's form, through the package bm25s.

    ``sum_w log(1 + (N - n_w + .5) / (n_w + .5)) f / (f + k1 (1 - b + b |d| / mean |d|))`` over the
    query's words w, with k1 = 1.5 and b = 0.75; words as in `icl.prompting.units`.
    """

    def __init__(self, documents: Sequence[Fields]) -> None:
        """Index documents.

        Raises:
            IclError: bm25s is not installed.
        """
        try:
            import bm25s
        except ImportError as error:
            raise IclError(
                "`choice: bm25` needs the package bm25s; install it with pip install 'icl[bm25]'."
            ) from error
        words = [units(joined(fields)) for fields in documents]
        self._size = len(documents)
        self._known = {word for document in words for word in document}
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        if self._known:
            self._index.index(words, show_progress=False)

    def scores(self, query: Fields) -> Floats:
        """Return each document's score, shape (documents,)."""
        words = [word for word in units(joined(query)) if word in self._known]
        if not words:
            return np.zeros(self._size)
        return np.asarray(self._index.get_scores(words), dtype=np.float64)

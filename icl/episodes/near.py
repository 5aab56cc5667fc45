"""Near-duplicate texts: all pairs whose character n-grams overlap enough, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icl.errors import IclError
from icl.tasks.task import normalise

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]

GRAM = 3
THRESHOLD = 0.8
_CHUNK = 4096  # rows compared at once: bounds the memory for candidates
_SLACK = 1e-9  # thresholds such as 0.8 x 5 must not be missed for a rounding error


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' sets of character 3-grams, from 0 to 1.

    >>> similarity("Wake me up at 7 am", "wake me up at 7  AM"), similarity("abcd", "abce")
    (1.0, 0.3333333333333333)
    """
    a, b = _grams(one), _grams(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def near_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> Ints:
    """Find every pair of texts with `similarity` of at least `threshold`.

    Exact, and far from quadratic for real text: two sets can only be that alike if they share
    one of their rarest grams, so only texts that share one are compared (the prefix filter of
    Chaudhuri et al. 2006; all-pairs search of Bayardo et al. 2007). Characters and not words, so
    that scripts without spaces are served alike. Empty texts have no pair.

    Returns:
        Pairs of places in `texts`, the smaller first, sorted, shape (pairs, 2).

    Raises:
        IclError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise IclError(f"The near-duplicate threshold is {threshold}; it must be in (0, 1].")
    whole, prefixes, sizes = _matrices(texts, threshold)
    found = [np.empty((0, 2), dtype=np.int64)]
    turned = prefixes.T.tocsr()
    for start in range(0, len(texts), _CHUNK):
        shared = (prefixes[start : start + _CHUNK] @ turned).tocoo()
        first, second = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        small, large = np.sort([sizes[first], sizes[second]], axis=0)
        likely = (first < second) & (small >= threshold * large - _SLACK)
        first, second = first[likely], second[likely]
        common = np.concatenate(
            [np.zeros(0), *(_common(whole, first[p], second[p]) for p in _parts(len(first)))]
        )
        alike = common >= threshold * (sizes[first] + sizes[second] - common) - _SLACK
        found.append(np.stack([first[alike], second[alike]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _parts(count: int) -> Iterable[slice]:
    size = 1 << 18
    return (slice(start, start + size) for start in range(0, count, size))


def _grams(text: str) -> set[str]:
    text = normalise(text)
    if len(text) <= GRAM:
        return {text} if text else set()
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)}


def _matrices(texts: Sequence[str], threshold: float) -> tuple[csr_matrix, csr_matrix, Ints]:
    """Return the texts' gram sets, their rarest parts, both texts x grams, and their sizes."""
    from scipy.sparse import csr_matrix

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_grams(text))
    rank = {g: r for r, g in enumerate(sorted(counts, key=lambda g: (counts[g], g)))}
    whole: list[NDArray[np.int32]] = []
    prefix: list[NDArray[np.int32]] = []
    for text in texts:
        ranks = np.array(sorted(rank[g] for g in _grams(text)), dtype=np.int32)
        whole.append(ranks)
        must_share = int(np.ceil(threshold * len(ranks) - _SLACK))
        prefix.append(ranks[: len(ranks) - must_share + 1] if len(ranks) else ranks)

    def matrix(rows: list[NDArray[np.int32]]) -> csr_matrix:
        edges = np.cumsum([0, *(len(r) for r in rows)])
        columns = np.concatenate([np.zeros(0, dtype=np.int32), *rows])
        data = np.ones(len(columns), dtype=np.int32)
        return csr_matrix((data, columns, edges), shape=(len(rows), max(len(rank), 1)))

    return matrix(whole), matrix(prefix), np.array([len(r) for r in whole], dtype=np.int64)


def _common(whole: csr_matrix, first: Ints, second: Ints) -> Ints:
    """Count the grams that two lists of rows share, pair by pair."""
    return np.asarray(whole[first].multiply(whole[second]).sum(axis=1)).ravel().astype(np.int64)

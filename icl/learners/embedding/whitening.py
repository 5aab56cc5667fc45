"""Whitening of embeddings with a shrunk covariance, so that a few vectors are enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Whitening:
    """The affine map ``x -> (x - mean) Q^(-1/2)``, normed so that mean variance stays one.

    ``Q = (1 - s) C + s v I``, where ``C`` is the covariance of the vectors it was fitted to and
    ``v`` their mean variance; the shrinkage ``s`` is Ledoit and Wolf's (2004), one where a single
    vector or none varies. Su et al. 2021 (arXiv 2103.15316) whiten sentence embeddings so, without
    shrinkage, on a large corpus.

    Attributes:
        mean: shape (width,).
        matrix: shape (width, width).
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def fit(cls, vectors: Tensor) -> Whitening:
        """Fit to vectors, shape (n, width)."""
        from sklearn.covariance import ledoit_wolf

        points = vectors.double()
        mean = points.mean(0)
        covariance, _ = ledoit_wolf((points - mean).numpy(), assume_centered=True)
        found = torch.from_numpy(covariance)
        scale = float(found.diagonal().mean())
        if scale <= 0.0:
            return cls(mean.float(), torch.eye(vectors.shape[1]))
        values, directions = torch.linalg.eigh(found / scale)
        values = values.clamp_min(1e-6)
        return cls(mean.float(), (directions * values.rsqrt() @ directions.T).float())

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map vectors, shape (n, width), to the same shape."""
        return (vectors - self.mean) @ self.matrix

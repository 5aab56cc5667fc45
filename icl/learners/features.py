"""What learners on frozen embeddings share: their parameters and how a text becomes a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import Params
from icl.models.embedder import Embedder, Pooling
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class FeatureParams(Params):
    """How texts are embedded.

    Attributes:
        layer: states after so many decoder layers; -1 for the last, normed ones; by default two
            thirds of the way up, where a causal model's states say most about what it has read.
        pooling: ``last`` token or ``mean`` over tokens.
        prompted: embed the rendered template instead of the bare text.
        normalise: scale vectors to unit length.
    """

    layer: int | None = Field(default=None, ge=-1)
    pooling: Pooling = "last"
    prompted: bool = False
    normalise: bool = True


class Features:
    """Embeds examples and queries as `FeatureParams` say."""

    def __init__(self, backbone: Backbone, params: FeatureParams) -> None:
        middle = round(2 * len(backbone.layers) / 3)
        layer = middle if params.layer is None else params.layer
        self._embedder = Embedder(backbone, layer, params.pooling)
        self._params = params

    def __call__(self, texts: Sequence[Fields], labels: Labels) -> Tensor:
        """Embed texts: float32 on the CPU, shape (texts, width)."""
        if self._params.prompted:
            shown = [labels.template.render(fields) for fields in texts]
        else:
            shown = ["\n".join(fields.values()) for fields in texts]
        vectors = self._embedder.embed(shown)
        if self._params.normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors


def targets(support: Sequence[Example], labels: Labels) -> Tensor:
    """Return each support example's label column, int64, shape (support,)."""
    return torch.tensor([labels.index(example.label) for example in support])

"""What learners on embeddings share: how a text becomes a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import Choices, Params
from icl.models.context import joined
from icl.models.embedding.own_vectors import embedder_of, unsaid
from icl.models.embedding.pooling import Pooling
from icl.models.embedding.usual import AUTO, Auto
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Ability, Model


# How a text becomes a vector, as far as that is searched. Layers are not: models differ in theirs.
FEATURES: Choices = {
    "pooling": (AUTO, "mean", "max"),
    "prompted": (AUTO, False, True),
    "whiten": (False, True),
}


class FeatureParams(Params):
    """How texts are embedded.

    Attributes:
        layer: states after so many layers; -1 for the last ones. ``auto`` is the last of an encoder
            and of a model with sentence-transformers' files, and of any other causal model the one
            that loses least over many data sets (docs/defaults.md); none is what was the default
            before that was measured, two thirds of the way up. `icl.learners.embedding.layer_probe`
            picks one on validation episodes.
        pooling: see `Embedder`. ``auto`` is what sentence-transformers' files beside the model say,
            else the mean of an encoder's states, and a mean of a causal model's in which later ones
            weigh more; none is the same but for causal models, where it is the last state.
        instruction: stands before every text; by default the prompt that those files name, if any.
        prompted: embed the rendered template instead of the bare text; ``auto`` does so for causal
            models of which no file says how they embed, but with the pooling ``prompt``.
        normalise: scale vectors to unit length.
        whiten: centre vectors and scale their directions by the support set's shrunk covariance.
    """

    layer: Annotated[int, Field(ge=-1)] | Auto | None = AUTO
    pooling: Pooling | Auto | None = AUTO
    instruction: str | None = None
    prompted: bool | Auto = AUTO
    normalise: bool = True
    whiten: bool = False

    @property
    def needs(self) -> frozenset[Ability]:
        """What a model must be able to do: its own vectors are enough, but for a layer of it."""
        looks_inside = not {self.layer, self.pooling} <= {AUTO, None}
        return frozenset({"states", "token_states"} if looks_inside else {"states"})

    def in_template(self, unsaid: bool) -> bool:
        """Tell whether texts are shown in their template.

        Args:
            unsaid: whether the model is causal, and no file says how it embeds.
        """
        if self.prompted == AUTO:
            return unsaid and self.pooling != "prompt"  # which has words of its own
        return self.prompted

    def uncut(self, examples: Sequence[Example], labels: Labels, encoder: bool) -> list[str]:
        """Return what the model reads of some examples, but for what their length costs them.

        Args:
            examples, labels: of a task.
            encoder: whether the model is one, as far as is known before it is loaded.
        """
        if self.in_template(not encoder):
            return [labels.template.render(e.fields) for e in examples]
        return [(self.instruction or "") + joined(e.fields) for e in examples]


class Features:
    """Embeds examples and queries as `FeatureParams` say."""

    def __init__(self, backbone: Model, params: FeatureParams) -> None:
        self.embedder = embedder_of(backbone, params.layer, params.pooling, params.instruction)
        self._params = params
        self._prompted = params.in_template(unsaid(backbone))

    def __call__(self, texts: Sequence[Fields], labels: Labels) -> Tensor:
        """Embed texts: float32 on the CPU, shape (texts, width)."""
        return self.finish(self.embedder.embed(self.shown(texts, labels)))

    def shown(self, texts: Sequence[Fields], labels: Labels) -> list[str]:
        """Return what the model reads of each text."""
        write = labels.template.render if self._prompted else joined
        return self.embedder.written(texts, write)

    def finish(self, vectors: Tensor) -> Tensor:
        """Scale vectors, shape (texts, width), to unit length where the parameters say so."""
        return torch.nn.functional.normalize(vectors, dim=1) if self._params.normalise else vectors


def targets(support: Sequence[Example], labels: Labels) -> Tensor:
    """Return each support example's label column, int64, shape (support,)."""
    return torch.tensor([labels.index(example.label) for example in support])

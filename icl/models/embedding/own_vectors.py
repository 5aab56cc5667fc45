"""`embedder_of`: what turns texts into vectors: the model's own method, or states of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from icl.models.base import Model, numbers
from icl.models.context import Fields, fit_fields, joined
from icl.models.embedding.embedder import Embedder
from icl.models.embedding.pooling import Pooling
from icl.models.embedding.sentence import sentence_of
from icl.models.embedding.usual import AUTO, USUAL_POOLING, Auto, layer_before, usual_layer
from icl.models.scoring.finite import finite

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


@dataclass(frozen=True)
class OwnEmbedder:
    """Turns texts into vectors as a model itself does, which shows no states of its tokens.

    Attributes:
        model: one that can `embed`.
        instruction: stands before every text.
    """

    model: Model
    instruction: str = ""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, each distinct one once: float32 on the CPU, shape (texts, width).

        Raises:
            IclError: the model gives vectors of another number, or that are not numbers.
        """
        distinct = list(dict.fromkeys(texts))
        asked = [self.instruction + text for text in distinct]
        if not asked:
            return torch.zeros(0, 1)
        found = numbers(self.model, self.model.embed(asked), (len(asked), -1))
        place = {text: at for at, text in enumerate(distinct)}
        return finite(found, f"The model {self.model.name!r}").cpu()[[place[t] for t in texts]]

    def written(
        self, texts: Sequence[Fields], write: Callable[[Fields], str] = joined
    ) -> list[str]:
        """Write texts of one or more fields, of which so much is cut that all fits the context."""
        before = self.instruction
        return [write(f) for f in fit_fields(self.model, texts, lambda f: [before + write(f)])]

    @cached_property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.embed(["a"]).shape[1]


def two_thirds_up(model: Model) -> int | None:
    """Return the layer two thirds of the way up; None for a model that shows none of its layers."""
    return layer_before(cast("Backbone", model).depth) if "token_states" in model.can else None


def unsaid(model: Model) -> bool:
    """Tell whether it is a causal model that shows its states, and no file says how it embeds."""
    if "token_states" not in model.can:
        return False
    backbone = cast("Backbone", model)
    return not backbone.bidirectional and sentence_of(backbone) is None


def embedder_of(
    model: Model,
    layer: int | Auto | None = AUTO,
    pooling: Pooling | Auto | None = AUTO,
    instruction: str | None = None,
) -> Embedder | OwnEmbedder:
    """Return what embeds texts with a model that can; see `Embedder`.

    What sentence-transformers' files beside a model say goes before every default.

    Args:
        model: the model.
        layer, pooling: of its states, where it shows them. ``auto`` is the mean of an encoder's
            last states, and of a causal model's what loses least over many data sets
            (`icl.models.embedding.usual`). None is what was taken before that was measured: of a
            causal model the last token's states two thirds of the way up.
        instruction: stands before every text; by default the prompt that the files name, if any.
    """
    if "token_states" not in model.can:
        return OwnEmbedder(model, instruction or "")
    backbone = cast("Backbone", model)
    own, whole = sentence_of(backbone) is not None, backbone.bidirectional
    if layer in (AUTO, None):
        up = usual_layer if layer == AUTO else layer_before
        layer = -1 if whole or own else up(backbone.depth)
    if pooling in (AUTO, None):
        states: Pooling = USUAL_POOLING if pooling == AUTO else "last"
        pooling = None if own else "mean" if whole else states
    return Embedder(backbone, layer, pooling, instruction)

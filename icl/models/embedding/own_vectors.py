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
from icl.models.embedding.sentence import Pooling, sentence_of
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
    return round(2 * cast("Backbone", model).depth / 3) if "token_states" in model.can else None


def embedder_of(
    model: Model,
    layer: int | None = None,
    pooling: Pooling | None = None,
    instruction: str | None = None,
) -> Embedder | OwnEmbedder:
    """Return what embeds texts with a model that can; see `Embedder`.

    Args:
        model: the model.
        layer, pooling: of its states, where it shows them; by default as sentence-transformers'
            files beside it say, else the mean of an encoder's last states, and the last token's two
            thirds of the way up a causal model.
        instruction: stands before every text.
    """
    if "token_states" not in model.can:
        return OwnEmbedder(model, instruction or "")
    backbone = cast("Backbone", model)
    own, whole = sentence_of(backbone) is not None, backbone.bidirectional
    middle = -1 if whole or own else two_thirds_up(model)
    return Embedder(
        backbone,
        (-1 if middle is None else middle) if layer is None else layer,
        pooling or (None if own else "mean" if whole else "last"),
        instruction,
    )

"""How many tokens texts put through a model, counted without the model.

Learners say by it what an episode takes (`Learner.work`). Label scores are counted exactly as they
are computed, each distinct token of an episode once (`icl.models.packed.trie`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.models.embedding.batches import made_up
from icl.models.embedding.usual import AUTO, Auto, layer_before, usual_layer
from icl.models.packed.trie import IntArray, pack
from icl.models.tokens import encode, encode_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class TokenCounter:
    """Counts the tokens of one experiment.

    Attributes:
        tokenizer: the model's.
        layers: how many it has.
        encoder: whether the model is an encoder, which reads bare texts.
    """

    tokenizer: PreTrainedTokenizerBase
    layers: int = 1
    encoder: bool = False

    def pairs(self, prompts: Sequence[str], answers: Sequence[str]) -> float:
        """Count the distinct tokens of prompts, each followed by each answer."""
        return self.packed(self.rows(prompts, answers))

    def rows(self, prompts: Sequence[str], answers: Sequence[str]) -> list[IntArray]:
        """Return what the model reads of each pair, for `packed`."""
        pairs = encode_pairs(self.tokenizer, prompts, answers)
        return [pair.tokens[:-1] for row in pairs for pair in row]  # nothing follows last tokens

    def packed(self, rows: Sequence[IntArray]) -> float:
        """Count the distinct tokens of encoded texts."""
        return float(len(pack(rows).tokens)) if rows else 0.0

    def texts(self, texts: Sequence[str]) -> float:
        """Count texts that are read whole; a causal model reads a common beginning once."""
        rows = encode(self.tokenizer, texts, closed=True)
        return float(sum(map(len, rows))) if self.encoder else self.packed(rows)

    def embedded(self, texts: Iterable[str], layer: int | Auto | None = AUTO) -> float:
        """Count distinct texts up to a layer, see `depth`, as they are embedded on a CPU."""
        rows = encode(self.tokenizer, list(dict.fromkeys(texts)), closed=True)
        return float(sum(made_up(len(row)) for row in rows)) * self.depth(layer)

    def depth(self, layer: int | Auto | None) -> float:
        """Return the share of the layers that an embedding needs; see `FeatureParams`."""
        if layer in (AUTO, None):
            up = usual_layer if layer == AUTO else layer_before
            return 1.0 if self.encoder else up(self.layers) / self.layers
        return 1.0 if layer < 0 else min(1.0, layer / self.layers)

    def adapted(self, top_layers: int | None) -> float:
        """Return the share of the layers that run anew for an adapter of an embedding model.

        An encoder's layers below the lowest adapted one run once, see `icl.models.text_trunks`.
        """
        return self.share(top_layers) if self.encoder else 1.0

    def share(self, top_layers: int | None) -> float:
        """Return the share of the layers that are so many of the uppermost; None for all."""
        return 1.0 if top_layers is None else min(1.0, top_layers / self.layers)

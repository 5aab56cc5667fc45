"""Text embeddings from a causal backbone: one packed pass, states of one layer, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.layout import lay_out
from icl.models.tokens import encode
from icl.models.trie import pack

Pooling = Literal["last", "mean"]
_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Embedder:
    """Turns texts into vectors.

    Attributes:
        backbone: the model.
        layer: states after so many decoder layers; -1 for the last, normed ones.
        pooling: ``last`` token or ``mean`` over tokens (BOS left out).
    """

    backbone: Backbone
    layer: int = -1
    pooling: Pooling = "mean"

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: float32 on the CPU, shape (texts, width). No text affects another."""
        rows = encode(self.backbone.tokenizer, texts)
        self.backbone.meter.prompt_tokens += sum(map(len, rows))
        vectors: list[Tensor] = []
        batch: list[int] = []
        for i in range(len(rows)):
            batch.append(i)
            if i + 1 == len(rows) or sum(len(rows[j]) for j in batch) >= _TOKENS_AT_ONCE:
                trie = pack([rows[j] for j in batch])
                states = self.backbone.layer_states(
                    lay_out(trie, self.backbone.device), self.layer
                ).float()
                vectors += [self._pool(states[torch.from_numpy(path)]) for path in trie.paths]
                batch = []
        return torch.stack(vectors).cpu()

    def _pool(self, states: Tensor) -> Tensor:
        if self.pooling == "last" or len(states) == 1:
            return states[-1]
        has_bos = self.backbone.tokenizer.bos_token_id is not None and len(states) > 1
        return states[1 if has_bos else 0 :].mean(0)

"""Text embeddings from any backbone: states of one layer, pooled; each distinct text once.

On a CPU texts run in batches of equal lengths, so that a vector is the same bits in any company; on
a GPU a causal model's texts run packed, so that a shared instruction is computed once, and an
encoder's in padded batches of similar lengths. Vectors are kept by content hash for every later
call, learner and process (`icl.models.embedding_store`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.embedding_store import EmbeddingStore, Vectors, content_key, open_store
from icl.models.encoder import Encoder
from icl.models.layout import lay_out
from icl.models.lora import Adapter
from icl.models.tokens import encode
from icl.models.trie import IntArray, join, pack

Pooling = Literal["last", "mean", "weighted-mean", "cls", "prompt"]
_TOKENS_AT_ONCE = 8192
_PADDED_TOKENS_AT_ONCE = 2048  # an encoder's batch stays in a processor's cache
_STEP = 4  # on a CPU, lengths are made up to multiples of it


@dataclass(frozen=True)
class Embedder:
    """Turns texts into vectors.

    Attributes:
        backbone: the model, causal or an encoder.
        layer: states after so many layers; -1 for the last (for causal models normed) ones.
        pooling: of the tokens' states: the ``last`` one's; their ``mean`` (BOS left out; [CLS] and
            [SEP] of encoders taken in, as sentence-transformers does); ``weighted-mean``, token i
            of n weighing i, since a causal model's later states have read more (SGPT, Muennighoff
            2022, arXiv 2202.08904); ``cls``, the first one's; ``prompt``, the state that predicts
            the next word after ``This sentence : "..." means in one word:"`` (PromptEOL, Jiang et
            al. 2023, arXiv 2307.16645), or that of the mask in ``... means [MASK].`` for encoders
            (PromptBERT, Jiang et al. 2022, arXiv 2201.04337).
        instruction: stands before every text.
        keep: keep vectors for later calls and processes.
    """

    backbone: Backbone
    layer: int = -1
    pooling: Pooling = "mean"
    instruction: str = ""
    keep: bool = True

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: float32 on the CPU, shape (texts, width).

        No text affects another. On a CPU, whose products give a row of one length the same bits
        whatever stands beside it (the tests hold that against any company and number of threads),
        its vector depends on no order, store or process; on a GPU so to rounding.

        The meter counts every text under `prompt_tokens`; what was found in the store was
        computed before and adds nothing to `computed_tokens`.
        """
        keys = [content_key(text) for text in texts]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        unique = sorted(first, key=first.__getitem__)
        store = self._store if self.keep else EmbeddingStore(None, self.width)
        found, vectors, tokens = store.read(unique)
        missing = [key for key, is_there in zip(unique, found, strict=True) if not is_there]
        if missing:
            rows = self.encode([texts[first[key]] for key in missing])
            vectors[~found] = self._compute(rows)
            tokens[~found] = [len(row) for row in rows]
            store.write(missing, vectors[~found], tokens[~found])
        place = {key: i for i, key in enumerate(unique)}
        at = [place[key] for key in keys]
        self.backbone.meter.prompt_tokens += int(tokens[at].sum())
        return torch.from_numpy(vectors[at])

    def _compute(self, rows: Sequence[IntArray]) -> Vectors:
        out = np.empty((len(rows), self.width), dtype=np.float32)
        with torch.no_grad():
            if self.backbone.device.type == "cpu":
                for batch, length in _passes(rows):
                    out[batch] = self._run_at([rows[i] for i in batch], length).numpy()
                return out
            for batch in _batches(rows, isinstance(self.backbone, Encoder)):
                out[batch] = self.run([rows[i] for i in batch]).cpu().numpy()
        return out

    def _run_at(self, rows: Sequence[IntArray], length: int) -> Tensor:
        """Embed encoded texts as one batch in which each has `length` tokens, with padding."""
        if isinstance(self.backbone, Encoder):
            states, real = self.backbone.states(rows, layer=self.layer, length=length)
            return self._pool(states.float(), real, rows)
        if self.backbone.own_road is not None:
            return self.run(rows)
        pad = self.backbone.tokenizer.pad_token_id or 0
        alike = [np.concatenate([row, np.full(length - len(row), pad)]) for row in rows]
        # one by one: what texts share, such as their first token, is not shared here
        trie = join([pack([row]) for row in alike])
        states = self._causal(trie, None).float().view(len(rows), length, -1)
        real = torch.arange(length) < torch.tensor([[len(row)] for row in rows])
        return self._pool(states, real, rows)

    def encode(self, texts: Sequence[str]) -> list[IntArray]:
        """Encode texts as this embedder shows them to the model; cut at the model's context."""
        shown = [self.instruction + text for text in texts]
        if self.pooling == "prompt":
            shown = [self._prompt.replace("{}", text) for text in shown]
        if isinstance(self.backbone, Encoder):
            return self.backbone.encode(shown)
        limit = self.backbone.context_length
        return [row[-limit:] for row in encode(self.backbone.tokenizer, shown)]

    def run(self, rows: Sequence[IntArray], adapter: Adapter | None = None) -> Tensor:
        """Embed encoded texts as one batch; gradients flow to the adapter unless they are off.

        Returns:
            Float32 on the model's device, shape (texts, width).
        """
        if isinstance(self.backbone, Encoder):
            states, real = self.backbone.states(rows, layer=self.layer, adapter=adapter)
            return self._pool(states.float(), real, rows)
        if self.backbone.own_road is not None and adapter is None:
            each = [states.float() for states in self.backbone.token_states(rows, self.layer)]
            padded = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
            lengths = torch.tensor([len(row) for row in rows], device=padded.device)
            real = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
            return self._pool(padded, real, rows)
        trie = pack(rows)
        states = self._causal(trie, adapter).float()
        real = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.bool)
        at = torch.zeros(real.shape, dtype=torch.long)
        for i, path in enumerate(trie.paths):
            real[i, : len(path)] = True
            at[i, : len(path)] = torch.from_numpy(path)
        at, real = at.to(states.device), real.to(states.device)
        return self._pool(states[at], real, rows)

    def _causal(self, trie: Any, adapter: Adapter | None) -> Tensor:
        return self.backbone.layer_states(lay_out(trie, self.backbone.device), self.layer, adapter)

    def _pool(self, states: Tensor, real: Tensor, rows: Sequence[IntArray]) -> Tensor:
        """Pool padded states, shape (texts, length, width), to (texts, width)."""
        lengths = real.sum(1)
        encoder = isinstance(self.backbone, Encoder)
        each = torch.arange(len(states), device=states.device)
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last" or (self.pooling == "prompt" and not encoder):
            return states[each, lengths - 1]
        if self.pooling == "prompt":
            mask: Any = self.backbone.tokenizer.mask_token_id
            at = [int(np.flatnonzero(row == mask)[-1]) if mask in row else 0 for row in rows]
            return states[each, torch.tensor(at, device=states.device)]
        weights = real.float()
        if not encoder and self.backbone.tokenizer.bos_token_id is not None:
            weights[lengths > 1, 0] = 0.0  # a lone BOS stands for an empty text
        if self.pooling == "weighted-mean":
            weights = weights * weights.cumsum(1)
        weights = weights / weights.sum(1, keepdim=True)
        return (weights[:, None, :] @ states)[:, 0]

    @cached_property
    def _prompt(self) -> str:
        if not isinstance(self.backbone, Encoder):
            return 'This sentence : "{}" means in one word:"'
        mask = self.backbone.tokenizer.mask_token
        if mask is None:
            raise IclError(
                f"The tokenizer of {self.backbone.name!r} has no mask token, which the pooling"
                " 'prompt' needs; take 'mean'."
            )
        return f'This sentence : "{{}}" means {mask}.'

    @cached_property
    def width(self) -> int:
        """Numbers in a vector."""
        config: Any = self.backbone.model.config
        return int(config.get_text_config().hidden_size)

    @cached_property
    def _store(self) -> EmbeddingStore:
        setting = (self.layer, self.pooling, self.instruction, _code())
        digest = hashlib.sha256(repr(setting).encode()).hexdigest()[:16]
        return open_store(f"{self.backbone.identity}-{digest}", self.width)


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash the source that decides an embedding, so that a newer version computes its own."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def made_up(length: int) -> int:
    """Return the length to which a text of so many tokens is made up on a CPU.

    >>> made_up(0), made_up(4), made_up(5)
    (4, 4, 8)
    """
    return -(-max(length, 1) // _STEP) * _STEP


def _passes(rows: Sequence[IntArray]) -> Iterator[tuple[list[int], int]]:
    """Cut texts into passes of equal lengths; yield some texts and what they are made up to."""
    alike: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(made_up(len(row)), []).append(i)
    for length, group in sorted(alike.items(), reverse=True):
        height = max(1, _PADDED_TOKENS_AT_ONCE // length)
        for at in range(0, len(group), height):
            yield group[at : at + height], length


def _batches(rows: Sequence[IntArray], padded: bool) -> Iterator[list[int]]:
    """Cut texts, longest first, into batches of bounded size; the longest shows at once if it fits.

    Args:
        rows: the encoded texts.
        padded: whether padding counts.
    """
    limit = _PADDED_TOKENS_AT_ONCE if padded else _TOKENS_AT_ONCE
    batch: list[int] = []
    used = 0
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        cost = len(rows[batch[0]] if padded and batch else rows[i])
        if batch and used + cost > limit:
            yield batch
            batch, used, cost = [], 0, len(rows[i])
        batch.append(i)
        used += cost
    if batch:
        yield batch

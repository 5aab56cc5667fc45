"""Text embeddings from any backbone: states of one layer, pooled; each distinct text once.

On a CPU texts run in batches of equal lengths, so that a vector is the same bits in any company; on
a GPU a causal model's texts run packed, so that a shared instruction is computed once, and an
encoder's in padded batches of similar lengths. Vectors are kept by content hash for every later
call, learner and process (`icl.models.embedding.embedding_store`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.adapters.lora_start import lowest_layer
from icl.models.backbone import Backbone
from icl.models.base import lacks
from icl.models.context import Fields, fit_fields, joined
from icl.models.embedding.batches import by_length, of_bounded_size
from icl.models.embedding.embedding_store import (
    WORK,
    EmbeddingStore,
    Vectors,
    Work,
    content_key,
    open_store,
)
from icl.models.embedding.pooling import Pooling, pool
from icl.models.embedding.sentence import Dense, Sentence, sentence_of
from icl.models.encoder import encode_whole
from icl.models.flops import spending
from icl.models.meter import Spent
from icl.models.packed.layout import lay_out
from icl.models.packed.trie import IntArray, join
from icl.models.scoring.finite import finite
from icl.models.text_trunks import as_batch, text_trunks
from icl.models.tokens import encode
from icl.tools.closure import code_of

if TYPE_CHECKING:
    from icl.models.encoder import Encoder


@dataclass(frozen=True)
class Embedder:
    """Turns texts into vectors.

    Attributes:
        backbone: the model, causal or an encoder.
        layer: states after so many layers; -1 for the last (for causal models normed) ones.
        pooling: of the tokens' states; by default what sentence-transformers' files beside the
            model say (then also their linear maps are applied, to the last states), else their
            mean; see `icl.models.embedding.pooling`.
        instruction: stands before every text; by default the prompt that the model's files name,
            if any.
        keep: keep vectors for later calls and processes.
    """

    backbone: Backbone
    layer: int = -1
    pooling: Pooling | None = None
    instruction: str | None = None
    keep: bool = True

    def __post_init__(self) -> None:
        """Raise `IclError` where the model shows no states, or its own way cannot be gone here."""
        if "token_states" not in self.backbone.can:
            raise IclError(lacks(self.backbone, {"token_states"}))
        if self._by_files and self._own is not None and self._own.refused:
            raise IclError(self._own.refused)

    @cached_property
    def _own(self) -> Sentence | None:
        """What the model's files say."""
        return sentence_of(self.backbone)

    @cached_property
    def _encoder(self) -> Encoder | None:
        """The model where it is an encoder: its texts run as they are, not packed."""
        return cast("Encoder", self.backbone) if self.backbone.bidirectional else None

    @property
    def _alone(self) -> bool:
        """Whether each text runs alone."""
        return not (self.backbone.packed or self.backbone.bidirectional)

    @property
    def _by_files(self) -> bool:
        return self.pooling is None and self._own is not None

    @cached_property
    def _way(self) -> Pooling:
        return self.pooling or ("mean" if self._own is None else self._own.pooling)

    @cached_property
    def before(self) -> str:
        """What stands before every text."""
        if self.instruction is not None:
            return self.instruction
        return "" if self._own is None else self._own.prompt

    @cached_property
    def _after(self) -> tuple[Dense, ...]:
        """The linear maps that follow the pooling."""
        last = self.layer in (-1, self.backbone.depth)
        if self._own is None or not self._by_files or not last:
            return ()
        assert self.backbone.origin is not None
        files = self.backbone.origin.files
        return tuple(Dense(folder, files, self.backbone.name) for folder in self._own.after)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: float32 on the CPU, shape (texts, width).

        No text affects another. On a CPU, whose products give a row of one length the same bits
        whatever stands beside it (the tests hold that against any company and number of threads),
        its vector depends on no order, store or process; on a GPU so to rounding.

        The meter counts every text under `prompt_tokens`, and charges what the store held for
        what computing it took: see `icl.models.meter`.
        """
        keys = [content_key(text) for text in texts]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        unique = sorted(first, key=first.__getitem__)
        store = self._store if self.keep else EmbeddingStore(None, self.width)
        found, vectors, work = store.read(unique)
        missing = [key for key, is_there in zip(unique, found, strict=True) if not is_there]
        meter, name = self.backbone.meter, self._name
        for i in np.flatnonzero(found):
            spent = Spent(*(float(work[i][part]) for part in ("computed", "seconds", "flops")))
            meter.charge(content_key(f"{name}/{unique[i].hex()}"), spent)
        if missing:
            rows = self.encode([texts[first[key]] for key in missing])
            vectors[~found], work[~found] = self._compute(rows)
            store.write(missing, vectors[~found], work[~found])
            meter.computed(content_key(f"{name}/{key.hex()}") for key in missing)
        place = {key: i for i, key in enumerate(unique)}
        at = [place[key] for key in keys]
        meter.prompt_tokens += int(work["tokens"][at].sum())
        return torch.from_numpy(vectors[at])

    def _compute(self, rows: Sequence[IntArray]) -> tuple[Vectors, Work]:
        """Return vectors, shape (texts, width), and what each took, (texts,)."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        work = np.zeros(len(rows), dtype=WORK)
        work["tokens"] = [len(row) for row in rows]
        encoder = self._encoder is not None
        passes: Iterable[tuple[list[int], int]]
        if self._alone:  # each costs its own
            passes = (([i], 0) for i in range(len(rows)))
        elif self.backbone.device.type == "cpu":
            passes = by_length(rows)
        else:
            passes = ((batch, 0) for batch in of_bounded_size(rows, padded=encoder))
        for batch, length in passes:
            some = [rows[i] for i in batch]
            with torch.no_grad(), spending(self.backbone) as spent:
                found = self._run_at(some, length) if length else self.run(some)
                out[batch] = found.cpu().numpy()
            each = spent() * (1 / len(batch))
            work["computed"][batch] = each.tokens
            work["seconds"][batch] = each.seconds
            work["flops"][batch] = each.flops
        finite(torch.from_numpy(out), f"The model {self.backbone.name!r}")  # before it is kept
        return out, work

    def _run_at(self, rows: Sequence[IntArray], length: int) -> Tensor:
        """Embed encoded texts as one batch in which each has `length` tokens, with padding."""
        if self._encoder is not None:
            states, real = self._encoder.states(rows, layer=self.layer, length=length)
            return self._pool(states.float(), real, rows)
        pad = self.backbone.tokenizer.pad_token_id or 0
        alike = [np.concatenate([row, np.full(length - len(row), pad)]) for row in rows]
        # one by one: what texts share, such as their first token, is not shared here
        trie = join(
            [self.backbone.spans.pack([a], [len(r)]) for a, r in zip(alike, rows, strict=True)]
        )
        states = self._causal(trie, None).float().view(len(rows), length, -1)
        real = torch.arange(length) < torch.tensor([[len(row)] for row in rows])
        return self._pool(states, real, rows)

    def encode(self, texts: Sequence[str]) -> list[IntArray]:
        """Encode texts as this embedder shows them to the model; see `icl.models.context`."""
        backbone = self.backbone
        encoder = self._encoder is not None
        if self._way == "prompt" or not (encoder or self._by_files):
            texts = [joined(own) for own in self._fitted([{"": text} for text in texts], joined)]
        shown = [self._shown(text) for text in texts]
        if encoder or self._by_files:  # by tokens, as sentence-transformers cuts
            return encode_whole(backbone, shown, self._longest)
        return encode(backbone.tokenizer, shown, closed=self._closed)

    def written(
        self, texts: Sequence[Fields], write: Callable[[Fields], str] = joined
    ) -> list[str]:
        """Write texts of one or more fields, of which so much is cut that all that is written fits.

        A lone field with nothing around it is left whole: `encode` cuts it.
        """
        if write is joined and all(len(fields) < 2 for fields in texts):
            return [joined(fields) for fields in texts]
        return [write(fields) for fields in self._fitted(texts, write)]

    def _fitted(self, texts: Sequence[Fields], write: Callable[[Fields], str]) -> list[Fields]:
        tokenizer, reserve = self.backbone.tokenizer, self.backbone.context_length - self._longest
        if self._encoder is None:
            behind = [len(encode(tokenizer, ["a"], closed=c)[0]) for c in (self._closed, False)]
            reserve += behind[0] - behind[1]
        own = self._own if self._by_files or self._encoder is not None else None

        def read(fields: Fields) -> list[str]:
            shown = self._shown(write(fields))
            return [shown if own is None else own.shown(shown)]

        return fit_fields(self.backbone, texts, read, reserve=reserve)

    @property
    def _closed(self) -> bool:
        return self._way != "prompt"  # which waits for the next word

    @property
    def _longest(self) -> int:
        """The most tokens of a text, with all that stands around it."""
        own = self._own.longest if self._by_files and self._own is not None else None
        return min(self.backbone.context_length, own or self.backbone.context_length)

    def _shown(self, text: str) -> str:
        text = self.before + text
        return self._prompt.replace("{}", text) if self._way == "prompt" else text

    def run(self, rows: Sequence[IntArray], adapter: Adapter | None = None) -> Tensor:
        """Embed encoded texts as one batch; gradients flow to the adapter unless they are off.

        Returns:
            Float32 on the model's device, shape (texts, width).
        """
        if self._encoder is not None:
            below = 0 if adapter is None else self._below(adapter)
            trunk = None
            if below:
                trunk = as_batch(text_trunks(self._encoder, rows, below), max(map(len, rows)))
            states, real = self._encoder.states(
                rows, layer=self.layer, adapter=adapter, trunk=trunk, start=below
            )
            return self._pool(states.float(), real, rows)
        if self._alone:
            each = [states.float() for states in self.backbone.token_states(rows, self.layer)]
            padded = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
            lengths = torch.tensor([len(row) for row in rows], device=padded.device)
            real = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
            return self._pool(padded, real, rows)
        trie = self.backbone.spans.pack(rows)
        states = self._causal(trie, adapter).float()
        real = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.bool)
        at = torch.zeros(real.shape, dtype=torch.long)
        for i, path in enumerate(trie.paths):
            real[i, : len(path)] = True
            at[i, : len(path)] = torch.from_numpy(path)
        at, real = at.to(states.device), real.to(states.device)
        return self._pool(states[at], real, rows)

    def _below(self, adapter: Adapter) -> int:
        """Return how many layers lie under the lowest adapted one, of those that run."""
        last = self.backbone.depth if self.layer == -1 else self.layer
        return min(lowest_layer(self.backbone, adapter.factors), last)

    def _causal(self, trie: Any, adapter: Adapter | None) -> Tensor:
        return self.backbone.layer_states(lay_out(trie, self.backbone.device), self.layer, adapter)

    def _pool(self, states: Tensor, real: Tensor, rows: Sequence[IntArray]) -> Tensor:
        """Pool padded states, shape (texts, length, width), to (texts, width of a vector)."""
        tokenizer, encoder = self.backbone.tokenizer, self._encoder is not None
        bos = None if encoder or self._by_files else tokenizer.bos_token_id
        mask: Any = tokenizer.mask_token_id if encoder else None
        vectors = pool(self._way, states, real, rows, bos=bos, mask=mask)
        for dense in self._after:
            vectors = dense(vectors)
        return vectors

    @cached_property
    def _prompt(self) -> str:
        if self._encoder is None:
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
        if self._after:
            return self._after[-1].linear.out_features
        config: Any = self.backbone.model.config
        return int(config.get_text_config().hidden_size)

    @cached_property
    def _name(self) -> str:
        # All that decides a vector beside the text: the model by its bytes, how it is run and
        # pooled, the code from which it comes, and the kind of device, since only a CPU gives the
        # same bits each time.
        backbone = self.backbone
        place = (backbone.device.type, backbone.context_length)
        code = code_of("icl.models.embedding.embedder", "icl.models.loading.load")
        way = (self.layer, self._way, self.before, self._by_files, self._own)
        setting = (*way, *place, code)
        digest = hashlib.sha256(repr(setting).encode()).hexdigest()[:16]
        return f"{self.backbone.identity}-{digest}"

    @cached_property
    def _store(self) -> EmbeddingStore:
        return open_store(self._name, self.width)

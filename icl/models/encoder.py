"""`Encoder`: a bidirectional transformer (BERT, XLM-R, MiniLM) with adapters as values.

It shares the hooks of `Backbone` (LoRA factors with or without a task axis, a first and a last
layer to run) and runs padded batches of similar lengths instead of packed tries: a bidirectional
token attends to all of its text, so that texts share nothing that could be computed once for
several of them. What frozen layers make of a text is kept (`icl.models.text_trunks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.base import ENCODER
from icl.models.context import tell_of_cut
from icl.models.embedding.sentence import sentence_of
from icl.models.kept import Kept
from icl.models.meter import Spent
from icl.models.packed.blocks import each_head, wants_graph
from icl.models.packed.layout import Layout
from icl.models.packed.state import ForwardState, activate
from icl.models.packed.trie import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ATTENTION = "icl_encoder"
_TRUNK_BYTES = 2**30


def register() -> str:
    """Register the encoders' attention and its mask function with transformers; return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, encoder_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    return ATTENTION


def encoder_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend in both directions: fused without a graph, plain products with one.

    SDPA's fused kernels have no double backward, which second-order meta-learning needs.

    Args:
        module: the attention module, as transformers passes it.
        query: shape (texts, heads, length, head size).
        key, value: shape (texts, key-value heads, length, head size).
        attention_mask: True where a token may be seen, (texts, 1, length, length); None for all.
        scaling: factor on the scores, default ``head size ** -0.5``.
        kwargs: what else transformers passes; a position bias is refused.

    Returns:
        The attended values, shape (texts, length, heads, head size), and None.
    """
    if kwargs.get("position_bias") is not None:
        raise NotImplementedError("attention with position biases")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    key, value = each_head(key, query.shape[1]), each_head(value, query.shape[1])
    if wants_graph(query, key, value):
        scores = query @ key.transpose(2, 3) * scale
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        out = scores.softmax(-1) @ value
    else:
        out = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scale
        )
    return out.transpose(1, 2).contiguous(), None


@dataclass(frozen=True, slots=True)
class TextTrunk:
    """What some lower layers make of a text.

    Attributes:
        states: shape (tokens, width), no graph.
        spent: what computing them took.
    """

    states: Tensor
    spent: Spent

    @property
    def nbytes(self) -> int:
        """How many bytes the states take."""
        return self.states.nbytes


class Encoder(Backbone):
    """An encoder under the hand of icl: texts in, hidden states out; it has no words to predict.

    The model's parameters are frozen and never change: adapters are passed along as values.

    Attributes:
        model: the transformers model without a head, in eval mode.
        tokenizer: its tokenizer.
        name: where it came from.
        meter: running totals of tokens; padding counts as computed.
        text_trunks: texts' states under the lowest adapted layer, see `icl.models.text_trunks`.
    """

    can = ENCODER
    kind = "an encoder"
    packed = False
    bidirectional = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        alone: bool = False,
    ) -> None:
        """Wrap a model.

        Args:
            model, tokenizer, name: see `Backbone`.
            alone: run texts of one length together, without padding, through the model's own
                forward pass and all its layers: right for any encoder, whatever its layers take and
                give, and whether or not padding changes its numbers.
        """
        self.staged = not alone
        super().__init__(model, tokenizer, name)
        self.text_trunks: Kept[TextTrunk] = Kept(_TRUNK_BYTES)

    @property
    def reproducible(self) -> bool:
        """Whether a text's states have the same bits in any company of its length.

        Products in single precision on a CPU give a row the same bits whatever stands beside it;
        on a GPU, and in half precision, how many rows there are may choose another kernel.
        """
        exact = self.model.dtype in (torch.float32, torch.float64)
        return exact and self.device.type == "cpu"

    def forget(self) -> None:
        """Drop the trunks that are kept, unless they have the same bits however they came about."""
        super().forget()
        if not self.reproducible:
            self.text_trunks.clear()

    def look_again(self) -> None:
        """Drop all that was made of the weights, which may have been changed since."""
        super().look_again()
        self.text_trunks.clear()

    def share(self, processes: int) -> None:
        """Leave the other processes of this machine their part of the memory."""
        super().share(processes)
        self.text_trunks.budget //= processes

    @cached_property
    def context_length(self) -> int:
        """The longest text that the model takes, in tokens, [CLS] and [SEP] counted."""
        config: Any = self.model.config
        positions = int(getattr(config, "max_position_embeddings", 2**31))
        padding_first = any(  # RoBERTa counts positions from the padding's id + 1
            getattr(module, "padding_idx", None)
            and getattr(module, "num_embeddings", 0) == positions
            for module in self.model.modules()
        )
        if padding_first:
            positions -= int(config.pad_token_id) + 1
        own = sentence_of(self)
        longest = own.longest if own is not None and own.longest else positions
        return min(positions, longest, int(self.tokenizer.model_max_length))

    def sizes(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the context each text takes, [CLS] and [SEP] counted."""
        tokenizer: Any = self.tokenizer
        return [len(row) for row in tokenizer(list(texts), verbose=False)["input_ids"]]

    def encode(self, texts: Sequence[str]) -> list[IntArray]:
        """Encode texts as the tokenizer does, special tokens included.

        A text that is longer than the context loses its end, with a warning.
        """
        return encode_whole(self, texts, self.context_length)

    def states(
        self,
        rows: Sequence[IntArray],
        *,
        layer: int = -1,
        adapter: Adapter | None = None,
        tasks: Sequence[int] = (),
        trunk: Tensor | None = None,
        start: int = 0,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run encoded texts as one padded batch; gradients flow to the adapter.

        Args:
            rows: token ids of each text, as `encode` gives them.
            layer: states after so many layers; -1 for the last ones.
            adapter: LoRA factors, or None.
            tasks: texts of each task, in order, for an adapter with a task axis.
            trunk: the states of the same texts after `start` layers, as this method returned them;
                the layers below are then skipped.
            start: the layer that the trunk enters.
            length: of all rows with padding; None for the longest text's.

        Returns:
            States, shape (texts, length, width), and which of them are no padding, boolean, shape
            (texts, length).
        """
        if not self.staged:
            return self._by_length(rows, layer, adapter, tasks)
        masked = length is not None  # always, so that no text decides how others are computed
        length = length or max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = np.full((len(rows), length), pad, dtype=np.int64)
        real = np.arange(length) < np.array([[len(row)] for row in rows])
        ids[real] = np.concatenate(rows)
        stop = None if layer in (-1, self.depth) else layer
        tokens = torch.from_numpy(ids).to(self.device)
        spans = torch.tensor([self.spans.of(len(row)) for row in rows], device=self.device)
        state = ForwardState(
            # no blocks: an encoder's attention is masked
            Layout(tokens, tokens, (), tokens, spans[:, None].expand(tokens.shape)),
            adapter,
            tuple(length * count for count in tasks),
            start=0 if trunk is None else start,
            trunk=trunk,
            stop=stop,
        )
        last = self.depth if stop is None else stop
        self.meter.computed_tokens += ids.size * (last - state.start) / self.depth
        mask = torch.from_numpy(real).to(self.device)
        seen = mask if masked or not real.all() else None
        with activate(state):
            out = self.model(input_ids=tokens, attention_mask=seen)
        states: Tensor = out.last_hidden_state if stop is None else state.stopped[0]
        return states, mask

    def _by_length(
        self,
        rows: Sequence[IntArray],
        layer: int,
        adapter: Adapter | None,
        tasks: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Do as `states` does, for texts of one length at a time, without padding or a trunk."""
        lengths = np.array([len(row) for row in rows])
        owner = np.repeat(np.arange(len(tasks)), tasks)
        inner = layer not in (-1, self.depth)
        order, parts = [], []
        for length in np.unique(lengths):
            own = np.flatnonzero(lengths == length)
            ids = np.stack([row for row in rows if len(row) == length])
            tokens = torch.from_numpy(ids).to(self.device)
            counts = np.bincount(owner[own], minlength=len(tasks)) * length if len(tasks) else ()
            layout = Layout(tokens, tokens, (), tokens)
            self.meter.computed_tokens += tokens.numel()
            with activate(ForwardState(layout, adapter, tuple(map(int, counts)))):
                out = self.model(input_ids=tokens, output_hidden_states=inner)
            states = out.hidden_states[layer] if inner else out.last_hidden_state
            parts.append(nn.functional.pad(states, (0, 0, 0, int(lengths.max() - length))))
            order.append(own)
        back = torch.from_numpy(np.argsort(np.concatenate(order))).to(self.device)
        real = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None]).to(self.device)
        return torch.cat(parts).index_select(0, back), real

    @torch.no_grad()
    def token_states(self, rows: Sequence[IntArray], layer: int = -1) -> list[Tensor]:
        """Return each text's states after `layer` layers, shape (tokens, width) each, no graph."""
        states, _ = self.states(rows, layer=layer)
        return [own[: len(row)] for own, row in zip(states, rows, strict=True)]


def encode_whole(backbone: Backbone, texts: Sequence[str], limit: int) -> list[IntArray]:
    """Encode texts, special tokens included; one of more than `limit` tokens is cut and told."""
    if not texts:
        return []
    tokenizer: Any = backbone.tokenizer
    own = sentence_of(backbone)
    shown = list(texts) if own is None else [own.shown(text) for text in texts]
    rows = tokenizer(shown, truncation=False, verbose=False)["input_ids"]
    long = [i for i, row in enumerate(rows) if len(row) > limit]
    if long:
        first = long[0]
        tell_of_cut(backbone, len(long), len(texts), limit, texts[first], len(rows[first]))
        cut = tokenizer([shown[i] for i in long], truncation=True, max_length=limit)
        for i, row in zip(long, cut["input_ids"], strict=True):
            rows[i] = row
    return [np.asarray(row, dtype=np.int64) for row in rows]

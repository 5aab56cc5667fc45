"""Encoder-decoder models: each prompt is read once, its answers are one trie for the decoder.

T5 and its kin (mT5, UMT5) place decoder tokens by a table of relative distances, which is looked up
here at trie positions; which token sees which is a mask. Other encoder-decoder models, whose
positions cannot be given, read the answers side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.base import PROMPTED
from icl.models.packed.trie import IntArray, PackedTrie, pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS_AT_ONCE = 8192  # padded encoder tokens of one batch
_POSITIONS: ContextVar[Tensor | None] = ContextVar("icl_decoder_positions", default=None)


class Seq2Seq(Backbone):
    """An encoder-decoder model, which can be prompted."""

    can = PROMPTED | {"weights"}
    kind = "an encoder-decoder"
    packed = False

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        """Wrap a model; see `Backbone`."""
        super().__init__(model, tokenizer, name)
        self.places_by_distance = False
        decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        for module in decoder.modules():
            if getattr(module, "has_relative_attention_bias", False):
                module.compute_bias = _placed(module.compute_bias)
                self.places_by_distance = True

    @cached_property
    def start(self) -> int:
        """The token with which the decoder begins, as transformers' `generate` finds it.

        Raises:
            IclError: the model does not say.
        """
        model: Any = self.model
        settings = getattr(model, "generation_config", None)
        name = "decoder_start_token_id"
        for said, own in ((model.config, name), (settings, name), (settings, "bos_token_id")):
            if (found := getattr(said, own, None)) is not None:
                return int(found)
        raise IclError(
            f"The model {self.name!r} does not say with which token its decoder begins; set"
            " `decoder_start_token_id` in its config.json (mBART: the language's token)."
        )

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Return ``log p(answer | prompt)`` summed over the answer's tokens, without an end token.

        Prompts go through the encoder with the tokenizer's own special tokens, answers are encoded
        alone, as lm-evaluation-harness does for these models.

        Returns:
            Float32 on the model's device, shape (prompts, answers).

        Raises:
            IclError: an answer has no token.
        """
        targets = _targets(self, answers)
        tokens = [np.asarray(t, dtype=np.int64) for t in self.tokenizer(list(prompts))["input_ids"]]
        scores = torch.zeros(len(prompts), len(answers), device=self.device)
        for rows in _batches(tokens, [self.spans.of(len(t)) for t in tokens]):
            ids = nn.utils.rnn.pad_sequence(
                [torch.from_numpy(tokens[r]) for r in rows], batch_first=True
            ).to(self.device)
            lengths = torch.tensor([len(tokens[r]) for r in rows], device=self.device)
            mask = (torch.arange(ids.shape[1], device=self.device) < lengths[:, None]).long()
            scores[torch.tensor(rows, device=self.device)] = score_tokens(self, ids, mask, targets)
        self.meter.prompt_tokens += sum(len(t) + len(a) for t in tokens for a in targets)
        return scores

    def answer_sizes(self, prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Return how many tokens of each answer are scored: the decoder reads it alone."""
        tokens = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        return [[len(ids) for ids in tokens] for _ in prompts]


def _targets(backbone: Seq2Seq, answers: Sequence[str]) -> list[IntArray]:
    encoded = backbone.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    for answer, ids in zip(answers, encoded, strict=True):
        if not ids:
            raise IclError(f"The label word {answer!r} has no token; give it a visible word.")
    return [np.asarray(ids, dtype=np.int64) for ids in encoded]


def _batches(tokens: Sequence[IntArray], spans: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows of similar length and one span, so many that their padded size stays small."""
    batch: list[int] = []
    for row in sorted(range(len(tokens)), key=lambda r: len(tokens[r])):
        large = (len(batch) + 1) * len(tokens[row]) > _TOKENS_AT_ONCE
        if batch and (large or spans[row] != spans[batch[0]]):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.no_grad()
def score_tokens(backbone: Seq2Seq, ids: Tensor, mask: Tensor, targets: list[IntArray]) -> Tensor:
    """Score all targets after each prompt of a batch, shape (prompts, answers)."""
    model: Any = backbone.model
    start = np.asarray([backbone.start], dtype=np.int64)
    contexts = [np.concatenate([start, target[:-1]]) for target in targets]
    states = model.get_encoder()(input_ids=ids, attention_mask=mask)
    backbone.meter.computed_tokens += int(mask.sum())
    if backbone.places_by_distance:
        trie = pack(contexts)
        log_probs = _decode_trie(backbone, ids, states, mask, trie)
        rows = [torch.from_numpy(path).to(ids.device) for path in trie.paths]
        backbone.meter.computed_tokens += len(ids) * len(trie.tokens)
        picked = [log_probs[:, path] for path in rows]
    else:
        picked = [_decode(backbone, ids, states, mask, context) for context in contexts]
        backbone.meter.computed_tokens += len(ids) * sum(map(len, contexts))
    scores = [
        some.gather(2, torch.from_numpy(t).to(ids.device)[None, :, None].expand(len(ids), -1, 1))
        for some, t in zip(picked, targets, strict=True)
    ]
    return torch.stack([some.sum((1, 2)) for some in scores], dim=1)


def _decode_trie(
    backbone: Seq2Seq, ids: Tensor, states: Any, mask: Tensor, trie: PackedTrie
) -> Tensor:
    """Return log-probabilities after every trie row, shape (prompts, rows, vocabulary)."""
    sees = torch.zeros(len(trie.tokens), len(trie.tokens), dtype=torch.bool, device=mask.device)
    for path in trie.paths:
        rows = torch.from_numpy(path).to(mask.device)
        sees[rows[:, None], rows] |= torch.ones_like(sees[: len(rows), : len(rows)]).tril()
    hidden_from = torch.zeros_like(sees, dtype=states[0].dtype).masked_fill(
        ~sees, torch.finfo(states[0].dtype).min
    )
    token = _POSITIONS.set(torch.from_numpy(trie.positions).to(mask.device))
    try:
        seen = hidden_from[None, None].expand(len(mask), 1, -1, -1)
        return _decode(backbone, ids, states, mask, trie.tokens, decoder_attention_mask=seen)
    finally:
        _POSITIONS.reset(token)


def _decode(
    backbone: Seq2Seq, ids: Tensor, states: Any, mask: Tensor, context: IntArray, **more: Tensor
) -> Tensor:
    """Return log-probabilities after every token of one context, (prompts, tokens, vocabulary)."""
    out = backbone.model(
        input_ids=ids,  # without which FSMT lets answers see their later tokens
        encoder_outputs=states,
        attention_mask=mask,
        decoder_input_ids=torch.from_numpy(context).to(mask.device).expand(len(mask), -1),
        use_cache=False,
        **more,
    )
    log_probs: Tensor = out.logits.float().log_softmax(-1)
    return log_probs


def _placed(compute_bias: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap T5's table of distances so that it is read at the active trie's positions."""

    def run(query_length: int, key_length: int, **kwargs: Any) -> Tensor:
        positions = _POSITIONS.get()
        if positions is None:
            return compute_bias(query_length, key_length, **kwargs)
        reach = int(positions.max()) + 1
        return compute_bias(reach, reach, **kwargs)[:, :, positions[:, None], positions]

    return run

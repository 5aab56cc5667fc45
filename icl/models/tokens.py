"""Encoding prompts and answers: whole, with the boundary found in token space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icl.errors import IclError
from icl.models.trie import IntArray, common_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt with one answer: all token ids, and the first that is the answer's.

    A token may span the boundary between prompt and answer. So prompt + answer is encoded whole,
    and the answer begins at the first token that differs from the prompt's own encoding.
    """

    tokens: IntArray
    answer_from: int


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[IntArray]:
    """Encode texts as the model's users would: BOS once where the tokenizer adds it, no EOS."""
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    eos = _added_eos(tokenizer)
    arrays = [np.asarray(row, dtype=np.int64) for row in ids]
    return [a[:-1] if eos is not None and len(a) and a[-1] == eos else a for a in arrays]


def _added_eos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id that the tokenizer puts at the end of every text, if it does."""
    eos: int | None = tokenizer.eos_token_id
    empty = tokenizer("", add_special_tokens=True)["input_ids"]
    return eos if eos is not None and len(empty) and empty[-1] == eos != empty[0] else None


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], answers: Sequence[str]
) -> list[list[EncodedPair]]:
    """Encode every prompt with every answer.

    Returns:
        One list a prompt, one `EncodedPair` an answer.

    Raises:
        IclError: an answer adds no token of its own, or nothing stands before its first token.
    """
    alone = encode(tokenizer, prompts)
    wholes = encode(tokenizer, [prompt + answer for prompt in prompts for answer in answers])
    pairs: list[list[EncodedPair]] = []
    for i, prompt in enumerate(prompts):
        row = []
        for j, answer in enumerate(answers):
            tokens = wholes[i * len(answers) + j]
            answer_from = common_prefix(tokens, alone[i])
            if answer_from == len(tokens):
                raise IclError(
                    f"The label word {answer!r} adds no token after the prompt ending in "
                    f"{prompt[-20:]!r}; give it a visible word."
                )
            if answer_from == 0:
                tokens = _with_context(tokenizer, tokens)
                answer_from = 1
            row.append(EncodedPair(tokens, answer_from))
        pairs.append(row)
    return pairs


def _with_context(tokenizer: PreTrainedTokenizerBase, tokens: IntArray) -> IntArray:
    """Put BOS, or else EOS, before an answer that has nothing to be conditioned on."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return np.concatenate([np.asarray([token], dtype=np.int64), tokens])
    raise IclError("The prompt is empty and the tokenizer has no BOS token; add an instruction.")

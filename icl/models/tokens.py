"""Encoding prompts and answers: whole, with the boundary found in token space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icl.errors import IclError
from icl.models.packed.trie import IntArray, common_prefix

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


class ByteTokenizer:
    """Stands in where no tokenizer is known: a token a byte, more than any model makes of a text.

    It serves to tell whether a prompt fits into the context, and errs on the safe side.
    """

    closes_texts = False
    eos_token_id: int | None = None
    bos_token_id: int | None = None
    chat_template: str | None = None
    bos_token: str | None = None

    def __call__(self, texts: str | Sequence[str], *, add_special_tokens: bool) -> dict[str, Any]:
        """Return ``input_ids``: the UTF-8 bytes of one text, or of each."""
        if isinstance(texts, str):
            return {"input_ids": list(texts.encode())}
        return {"input_ids": [list(text.encode()) for text in texts]}


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, closed: bool = False
) -> list[IntArray]:
    """Encode texts as the tokenizer's users would, with what it puts before them.

    Args:
        tokenizer: of the model.
        texts: to encode.
        closed: keep what the tokenizer puts behind a text (EOS, SEP), as embeddings want it; a
            text that goes on, by an answer or a token at a time, is not at its end.
    """
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    behind = 0 if closed else _added_behind(tokenizer)
    return [np.asarray(row[: len(row) - behind], dtype=np.int64) for row in ids]


def _added_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the tokenizer puts behind every text."""
    if not getattr(tokenizer, "closes_texts", True):
        return 0
    for probe in ("a", "0", "."):  # not an empty text, of which before and behind cannot be told
        bare = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
        whole = list(tokenizer(probe, add_special_tokens=True)["input_ids"])
        for before in range(len(whole) - len(bare) + 1):
            if bare and whole[before : before + len(bare)] == bare:
                return len(whole) - before - len(bare)
    return 0


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Raise `IclError` where texts can have tokens that a model has no embeddings for.

    Special tokens do not count, which no ordinary text has (Gemma 3's for images).

    Args:
        name: the model's.
        tokenizer: its tokenizer.
        config: its transformers configuration.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is None or len(tokenizer) <= rows:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = [t for t, i in tokenizer.get_vocab().items() if i >= rows and i not in special]
    if beyond:
        raise IclError(
            f"The tokenizer of {name!r} has {len(tokenizer)} tokens, and the model embeddings for"
            f" {rows} ({min(beyond)!r} has none); the two do not belong together, or the model was"
            " saved before `resize_token_embeddings`: save it anew after that."
        )


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

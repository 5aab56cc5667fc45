"""Free generation: greedy or sampled continuations, prompts' shared prefixes computed once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.base import Ability, Model, lacks, texts_of
from icl.models.memory import bytes_per_row, is_out_of_memory
from icl.models.packed.trie import IntArray, pack
from icl.models.scoring.decoding import Decoder, PlainDecoder
from icl.models.scoring.finite import finite
from icl.models.tokens import encode

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    adapter: Adapter | None = None,
) -> list[list[str]]:
    """Continue every prompt.

    What a prompt is continued with depends on that prompt, the seed and the sample's number alone,
    not on what else is in the batch.

    Args:
        model: decoders run packed, others by whole passes; without weights, it writes itself.
        prompts: texts to continue.
        max_new_tokens: the most tokens of a continuation.
        stop: strings at which a continuation ends; they are cut off. One that is a special token,
            such as a chat's end of turn, ends it where it is chosen, and so do the model's
            end-of-sequence tokens always.
        samples: continuations of each prompt.
        temperature: 0 takes the likeliest token; above it, logits are divided by it and sampled.
        seed: of the samples.
        adapter: LoRA factors without a task axis.

    Returns:
        For each prompt, `samples` texts without the prompt.

    Raises:
        IclError: several greedy samples are asked for, a prompt has no token, or the model cannot
            write, or takes no adapter and is given one.
    """
    if samples > 1 and temperature == 0:
        raise IclError("Several samples need a temperature above 0; greedy ones are all the same.")
    asked: set[Ability] = {"write"} if adapter is None else {"write", "adapt"}
    if not asked <= model.can:
        raise IclError(lacks(model, asked - model.can))
    if not prompts or max_new_tokens < 1:
        return [[""] * samples for _ in prompts]
    if "weights" not in model.can:
        written = model.write(prompts, max_new_tokens=max_new_tokens, stop=stop,
                              samples=samples, temperature=temperature, seed=seed)  # fmt: skip
        return texts_of(model, written, len(prompts), samples)
    backbone = cast("Backbone", model)
    ends = _end_tokens(backbone) | _special(backbone, stop)

    def at_once(some: Sequence[str], encoded: Sequence[IntArray]) -> list[list[str]]:
        decoder = (
            Decoder(backbone, encoded, samples, max_new_tokens, adapter)
            if backbone.packed
            else PlainDecoder(backbone, some, samples)
        )
        draws = [_generator(seed, text, n) for text in some for n in range(samples)]
        before = [] if backbone.model.config.is_encoder_decoder else encoded
        texts = _decode(backbone, decoder, before, draws, ends, max_new_tokens, stop, temperature)
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    def run(some: Sequence[str]) -> list[list[str]]:
        """Continue some prompts at once, or by halves where memory allows no more."""
        encoded = encode(backbone.tokenizer, some)
        for prompt, tokens in zip(some, encoded, strict=True):
            if not len(tokens):
                raise IclError(f"The prompt {prompt!r} has no token; add an instruction.")
        rows = len(pack(encoded).tokens) + len(some) * samples * max_new_tokens
        needed = rows * bytes_per_row(backbone.model) if backbone.packed else 0
        if len(some) == 1 or needed <= backbone.budget():
            try:
                return at_once(some, encoded)
            except (RuntimeError, MemoryError) as error:
                if len(some) == 1 or not is_out_of_memory(error):
                    raise
            backbone.memory_budget = needed // 2  # the most that later batches may ask for
            warnings.warn(
                f"Memory ran out on {len(some)} prompts at once; going on with half as many.",
                stacklevel=3,
            )
        middle = len(some) // 2
        return [*run(some[:middle]), *run(some[middle:])]

    with torch.no_grad():
        return run(prompts)


def _decode(
    backbone: Backbone,
    decoder: Decoder | PlainDecoder,
    before: Sequence[IntArray],
    draws: Sequence[np.random.Generator],
    ends: frozenset[int],
    max_new_tokens: int,
    stop: Sequence[str],
    temperature: float,
) -> list[str]:
    """Continue all sequences until each has met its end."""
    copies = len(draws) // len(before) if before else 1
    tokens: list[list[int]] = [[] for _ in draws]
    texts = [""] * len(draws)
    active, logits = list(range(len(draws))), decoder.first
    for step in range(max_new_tokens):
        chosen = _choose(logits, [draws[s] for s in active], temperature)
        going: list[int] = []
        for sequence, token in zip(active, chosen, strict=True):
            if token in ends:
                continue
            tokens[sequence].append(token)
            last = before[sequence // copies][-1:].tolist() if before else []
            text = _text(backbone, last, tokens[sequence])
            cuts = [at for at in (text.find(s) for s in stop if s) if at >= 0]
            texts[sequence] = text[: min(cuts)] if cuts else text
            if not cuts:
                going.append(sequence)
        active = going
        if not active or step == max_new_tokens - 1:
            break
        logits = decoder.step(active, [tokens[s][-1] for s in active])
    return texts


def _choose(logits: Tensor, draws: Sequence[np.random.Generator], temperature: float) -> list[int]:
    if bool(logits.isnan().any()):  # a logit of -inf only rules a token out
        finite(logits, "The model")
    if temperature == 0:
        likeliest: list[int] = logits.argmax(1).tolist()
        return likeliest
    shares = (logits.double() / temperature).softmax(1).cumsum(1)
    points = torch.tensor([[draw.random()] for draw in draws], dtype=torch.float64)
    at = torch.searchsorted(shares, points.to(shares.device) * shares[:, -1:])
    chosen: list[int] = at[:, 0].clamp_max(shares.shape[1] - 1).tolist()
    return chosen


def _text(backbone: Backbone, last: list[int], tokens: list[int]) -> str:
    """Decode new tokens as they stand after the prompt's last one, blanks included."""
    decode = backbone.tokenizer.decode
    head = str(decode(last, skip_special_tokens=True)) if last else ""
    whole = str(decode([*last, *tokens], skip_special_tokens=True))
    return whole[len(head) :] if whole.startswith(head) else str(decode(tokens))


def _generator(seed: int, prompt: str, sample: int) -> np.random.Generator:
    digest = hashlib.sha256(prompt.encode()).digest()
    return np.random.default_rng([seed, sample, int.from_bytes(digest[:8], "big")])


def _special(backbone: Backbone, stop: Sequence[str]) -> frozenset[int]:
    """Return the special tokens among some stops, which are not spelt out in what is decoded."""
    added = backbone.tokenizer.added_tokens_decoder.items()
    return frozenset(token for token, said in added if said.special and said.content in stop)


def _end_tokens(backbone: Backbone) -> frozenset[int]:
    settings = getattr(backbone.model, "generation_config", None)
    found = getattr(settings, "eos_token_id", None)
    if found is None:
        found = backbone.tokenizer.eos_token_id
    return frozenset([found] if isinstance(found, int) else found or ())

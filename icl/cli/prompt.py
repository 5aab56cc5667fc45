"""A prompt on the terminal: what the model reads, where the label begins, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from icl.episodes import Episode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from icl.models.tokens import EncodedPair

# Isolates (Unicode UAX 9) keep a right-to-left answer from swapping places with what is around it.
_ISOLATE, _END = "\u2068", "\u2069"
_OPEN, _CLOSE = "⟦", "⟧"
_CONTEXT = 6  # prompt tokens shown before the label's


def render(
    episode: Episode, place: int, tokenizer: PreTrainedTokenizerBase | None
) -> Iterator[str]:
    """Lay out one query's prompt, followed by its right label in marks.

    Args:
        episode: the episode.
        place: which query.
        tokenizer: counts tokens and finds the boundary; None: characters only.
    """
    whole, of = episode, len(episode.query)
    query = episode.query[place]
    episode = replace(whole, query=(query,)).posed()  # the first question of several about it
    labels, asked = episode.labels, episode.query[0]
    words = dict(zip(labels.names, labels.words, strict=True))
    shown = [(e.fields, words.get(e.label, e.label)) for e in episode.support]
    template = labels.template
    prefix, prompt = template.prefix(shown), template.prompt(shown, asked.fields)
    answer = template.answer(words.get(asked.label, asked.label))

    languages = episode.support_language
    if episode.query_language != languages:
        languages += f" → {episode.query_language}"
    yield (
        f"Episode {episode.index} of {episode.task} · {whole.ways} ways, {episode.shots} shots · "
        f"{languages} · {episode.setting} · {whole.fingerprint}"
    )
    yield f"Query {place} of {of}: {query.id}, label {query.label}"
    yield _rule("prompt, as the model reads it; the label in marks is not part of it")
    yield f"{prompt}{_OPEN}{_ISOLATE}{answer}{_END}{_CLOSE}"
    yield _rule("")
    yield (
        f"Characters: {len(prompt)} = {len(template.instruction)} instruction + "
        f"{len(prefix) - len(template.instruction)} demonstrations + "
        f"{len(prompt) - len(prefix)} query"
    )
    if tokenizer is not None:
        answers = [template.answer(word) for word in labels.words] or [answer]
        yield from _tokens(tokenizer, prefix, prompt, answers, answers.index(answer))


def _tokens(
    tokenizer: PreTrainedTokenizerBase, prefix: str, prompt: str, answers: list[str], right: int
) -> Iterator[str]:
    from icl.models.tokens import encode, encode_pairs

    alone = encode(tokenizer, [prompt])[0]
    shared = len(encode(tokenizer, [prefix])[0]) if prefix else 0
    (pairs,) = encode_pairs(tokenizer, [prompt], answers)
    yield f"Tokens: {len(alone)}, of which about {shared} are shared by the queries"
    yield "Labels, each as the tokens that are scored:"
    width = max(len(repr(a)) for a in answers)
    for place, (answer, pair) in enumerate(zip(answers, pairs, strict=True)):
        mark = "*" if place == right else " "
        scored = len(pair.tokens) - pair.answer_from
        yield f" {mark} {answer!r:{width}}  {scored} token{'s' * (scored != 1)}: " + _pieces(
            tokenizer, pair, pair.answer_from
        )
    pair = pairs[right]
    yield f"Boundary, between the tokens {pair.answer_from - 1} and {pair.answer_from}: " + (
        f"… {_pieces(tokenizer, pair, max(0, pair.answer_from - _CONTEXT), pair.answer_from)} "
        f"{_OPEN} {_pieces(tokenizer, pair, pair.answer_from)} {_CLOSE}"
    )
    if pair.answer_from < len(alone):
        yield (
            "Note: a token spans prompt and label, so the label is scored from "
            f"{len(alone) - pair.answer_from} token(s) before the prompt's end."
        )


def _pieces(
    tokenizer: PreTrainedTokenizerBase, pair: EncodedPair, start: int, stop: int | None = None
) -> str:
    """Spell tokens in logical order, each isolated, so that no script moves its neighbours."""
    spelt = (_spell(tokenizer, token) for token in pair.tokens[start:stop].tolist())
    return " ".join(f"{_ISOLATE}{text!r}{_END}" for text in spelt)


def _spell(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """Return a token's text, or its name in the vocabulary where it is a part of a character."""
    name = str(tokenizer.convert_ids_to_tokens(token))
    if "▁" in name:  # SentencePiece's blank, which decoding a lone token may lose
        return name.replace("▁", " ")
    text = str(tokenizer.decode([token]))
    return name if "\ufffd" in text else text


def _rule(title: str) -> str:
    return f"── {title} ".ljust(78, "─") if title else "─" * 78

"""chrF, BLEU and ROUGE-L of written answers, by sacrebleu and rouge-score, as shares.

Both libraries come with the extra ``generation``. chrF counts letters and suits every script.
sacrebleu's default tokeniser for BLEU, and rouge-score's own, were made for languages with blanks
(the latter drops all that is not a-z), so scripts without blanks are read letter by letter in BLEU,
and ROUGE reads the tokens of `icl.metrics.texts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from icl.errors import IclError
from icl.metrics.texts import tokens, unspaced


def chrf(answer: str, reference: str) -> float:
    """Return the sentence's chrF (Popović 2015: letters to 6-grams, β = 2), in [0, 1]."""
    return float(_sacrebleu().sentence_chrf(answer, [reference]).score) / 100


def bleu(answer: str, reference: str) -> float:
    """Return the sentence's BLEU (Papineni et al. 2002), in [0, 1].

    Smoothed exponentially and with the effective order, as sacrebleu does for sentences.
    """
    found = _sacrebleu().sentence_bleu(answer, [reference], tokenize=_tokeniser([reference]))
    return min(float(found.score) / 100, 1.0)


def rouge(answer: str, reference: str) -> float:
    """Return ROUGE-L's F1 (Lin 2004): the longest common subsequence of tokens, in [0, 1]."""
    return float(_rouge(("rougeL",)).score(reference, answer)["rougeL"].fmeasure)


def corpus_chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return chrF of all answers together, in [0, 1]: no mean of the sentences'."""
    return float(_sacrebleu().corpus_chrf(list(answers), [list(references)]).score) / 100


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return BLEU of all answers together, in [0, 1]: no mean of the sentences'."""
    tokenize = _tokeniser(references)
    found = _sacrebleu().corpus_bleu(list(answers), [list(references)], tokenize=tokenize)
    return min(float(found.score) / 100, 1.0)


def rouge_scores(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return the means over answers of the F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in [0, 1]."""
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = _rouge(kinds)
    found = [scorer.score(r, a) for a, r in zip(answers, references, strict=True)]
    return {kind: float(sum(f[kind].fmeasure for f in found) / len(found)) for kind in kinds}


class _Tokens:
    """Our tokens in the form that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


def _tokeniser(references: Sequence[str]) -> str:
    return "char" if any(unspaced(letter) for text in references for letter in text) else "13a"


def _sacrebleu() -> Any:
    return _library("sacrebleu", "sacrebleu")


def _rouge(kinds: Sequence[str]) -> Any:
    scorer = _library("rouge_score.rouge_scorer", "rouge-score").RougeScorer
    return scorer(list(kinds), tokenizer=_Tokens())


def _library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise IclError(
            f"This metric needs {package}; install icl with the extra `generation`."
        ) from error

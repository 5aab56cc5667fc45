"""Chains of thought and self-consistency: many sampled ways of thinking, one vote.

Wei et al. 2022 (arXiv 2201.11903) show a rationale before each demonstration's answer; Kojima et
al. 2022 (arXiv 2205.11916) ask for one with a phrase and no demonstration; Wang et al. 2023
(arXiv 2203.11171) sample several and take the answer that most of them reach.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.prompting.fitting import fit
from icl.tasks.task import Example
from icl.tasks.template import Fields, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ChainOfThought:
    """A template whose answers come after a rationale.

    Attributes:
        template: the task's; its target renders the answer.
        marker: what stands between rationale and answer, e.g. ``The answer is``; empty for
            answers without rationale.
        rationale: the field of a demonstration that holds its rationale, or None.
        opening: what every rationale begins with, e.g. ``Let's think step by step.``
    """

    template: Template
    marker: str = ""
    rationale: str | None = None
    opening: str = ""

    def prompt(self, shown: Sequence[Example], words: Mapping[str, str], fields: Fields) -> str:
        """Return the text after which the model thinks and answers; no blank at its end."""
        parts = [self.template.instruction]
        for example in shown:
            answer = self.template.answer(words.get(example.label, example.label))
            thought = example.fields.get(self.rationale, "") if self.rationale else ""
            before = [t for t in (self.opening, thought.strip(), self.marker) if t]
            parts.append(self.template.render(example.fields))
            parts.append("".join(f" {text}" for text in before))
            parts.append(answer if answer[:1].isspace() or not before else f" {answer}")
            parts.append(self.template.separator)
        parts.append(self.template.render(fields))
        parts.append(f" {self.opening}" if self.opening else "")
        return "".join(parts)

    def fitted(
        self,
        tokenizer: PreTrainedTokenizerBase,
        shown: Sequence[Example],
        words: Mapping[str, str],
        fields: Fields,
        room: int,
    ) -> str:
        """Return the prompt with as many whole demonstrations as leave it within `room` tokens."""
        kept = fit(tokenizer, shown, lambda some: [self.prompt(some, words, fields)], room)
        if len(kept) < len(shown):
            warnings.warn(
                f"Only {len(kept)} of {len(shown)} demonstrations fit in {room} tokens of context.",
                stacklevel=2,
            )
        return self.prompt(kept, words, fields)

    def answer(self, completion: str) -> str:
        """Return the answer in what the model wrote: the line after the last marker.

        A completion that never says the marker answers with its last line that is not empty.
        """
        if self.marker and self.marker in completion:
            said = completion.rsplit(self.marker, 1)[1].strip()
            return said.splitlines()[0].strip() if said else ""
        lines = [line.strip() for line in completion.splitlines() if line.strip()]
        if not lines:
            return ""
        return lines[-1] if self.marker else lines[0]


def vote(answers: Sequence[str]) -> str:
    """Return the answer that most samples gave, as it was first written; of equals the earliest.

    Case, outer punctuation, blanks and Unicode's composed or decomposed forms make no difference.
    Samples without an answer have no vote.

    >>> vote(["42.", "7", " 42", ""]), vote(["b", "a", "a", "b"]), vote([""])
    ('42.', 'b', '')
    """
    plain = [_plain(answer) for answer in answers]
    counts = Counter(text for text in plain if text)
    if not counts:
        return ""
    most = max(counts.values())
    return next(a.strip() for a, text in zip(answers, plain, strict=True) if counts[text] == most)


def _plain(answer: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", answer).casefold().split())
    return re.sub(r"^[^\w$€£¥+-]+|[^\w%]+$", "", text)

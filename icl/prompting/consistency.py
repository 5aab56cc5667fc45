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
from typing import TYPE_CHECKING, Literal

from icl.prompting.fitting import fit
from icl.prompting.format import PlainFormat
from icl.tasks.task import Example
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from icl.prompting.chat import ChatFormat

Lines = Literal["one", "all"]


@dataclass(frozen=True, slots=True)
class ChainOfThought:
    """A prompt whose answers come after a rationale, and what is read in what a model writes.

    Attributes:
        form: how prompts are written; its template's target renders the answer.
        marker: what stands between rationale and answer, e.g. ``The answer is``; empty for
            answers without rationale.
        rationale: the field of a demonstration that holds its rationale, or None.
        opening: what every rationale begins with, e.g. ``Let's think step by step.``
        lines: whether an answer is ``one`` line or ``all`` that is written.
    """

    form: PlainFormat | ChatFormat
    marker: str = ""
    rationale: str | None = None
    opening: str = ""
    lines: Lines = "one"

    def prompt(self, shown: Sequence[Example], words: Mapping[str, str], fields: Fields) -> str:
        """Return the text after which the model thinks and answers; no blank at its end."""
        answered = [(e.fields, self._said(e, words.get(e.label, e.label))) for e in shown]
        return self.form.written(answered, fields, self.opening)

    def _said(self, example: Example, word: str) -> str:
        answer = self.form.template.answer(word)
        thought = example.fields.get(self.rationale, "") if self.rationale else ""
        before = [f" {text}" for text in (self.opening, thought.strip(), self.marker) if text]
        return "".join(before) + (answer if answer[:1].isspace() or not before else f" {answer}")

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

    @property
    def stops(self) -> tuple[str, ...]:
        """What ends an answer while it is written: the form's own ends.

        Where examples are told apart by the separator alone, as by a blank line, a chain of
        thought may hold it too: there it ends nothing before the marker (see `answer`).
        """
        return () if self._parts_thoughts else self.form.ends

    @property
    def _parts_thoughts(self) -> bool:
        alone = (self.form.template.separator,)
        return bool(self.marker) and self.form.ends == alone

    def answer(self, completion: str) -> str:
        """Return the answer in what the model wrote: the line after the last marker, or all of it.

        A completion that never says the marker answers with its last line that is not empty, one
        of a prompt without a marker with its first.
        """
        begun = f"{getattr(self.form, 'prefix', '')} {self.opening}"
        if self.marker and self.marker in begun:  # it is said already
            return self._part(completion, 0)
        before, said, after = completion.partition(self.marker) if self.marker else ("", "", "")
        if said and self._parts_thoughts:
            completion = before + said + after.lstrip().partition(self.form.ends[0])[0]
        if said:
            return self._part(completion.rsplit(self.marker, 1)[1], 0)
        return self._part(completion, -1 if self.marker else 0)

    def _part(self, text: str, line: int) -> str:
        if self.lines == "all":
            return text.strip()
        lines = [part.strip() for part in text.splitlines() if part.strip()]
        return lines[line] if lines else ""


def vote(answers: Sequence[str]) -> str:
    """Return the answer that most samples gave, as it was first written; of equals the earliest.

    Case, outer punctuation, blanks and Unicode's composed or decomposed forms make no difference.
    Samples without an answer have no vote.

    >>> vote(["42.", "7", " 42", ""]), vote(["b", "a", "a", "b"]), vote([""])
    ('42.', 'b', '')
    """
    plain = [_plain(answer) for answer in answers]
    most = Counter(filter(None, plain)).most_common(1)  # of equals the earliest
    return answers[plain.index(most[0][0])].strip() if most else ""


def _plain(answer: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", answer).casefold().split())
    return re.sub(r"^[^\w$€£¥+-]+|[^\w%]+$", "", text)

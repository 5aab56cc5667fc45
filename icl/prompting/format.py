"""`PlainFormat`: what turns demonstrations and a query into the text that a model reads.

`icl.prompting.chat.ChatFormat` has the same methods and lays the text out as a model's own chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icl.prompting.channel import ChannelTemplate, cue, split
from icl.tasks.template import Fields, Template

Demonstrations = Sequence[tuple[Fields, str]]
"""Demonstrations as (fields, the label's word) pairs."""
Answered = tuple[Fields, str]
"""A demonstration's fields, and its answer in full, as it stands after the input."""


@dataclass(frozen=True, slots=True)
class PlainFormat:
    """Prompts in the words of a template, and nothing around them."""

    template: Template

    def prompt(self, demonstrations: Demonstrations, fields: Fields) -> str:
        """Return all that stands before the answer: instruction, demonstrations, the input."""
        return self.template.prompt(demonstrations, fields)

    def written(self, answered: Sequence[Answered], fields: Fields, opening: str = "") -> str:
        """Return all that stands before what the model writes.

        Args:
            answered: demonstrations whose answers may hold more than a word, such as a rationale.
            fields: the query's.
            opening: how the model's own answer begins; a blank stands before it.
        """
        template = self.template
        shown = (template.render(f) + answer + template.separator for f, answer in answered)
        begun = f" {opening}" if opening else ""
        return template.instruction + "".join(shown) + template.render(fields) + begun

    def answer(self, word: str) -> str:
        """Return the template's target: the answer after the prompt, leading blank included."""
        return self.template.answer(word)

    def domain(self) -> str:
        """Return the template's cue, e.g. ``Kind:``: what stands before an answer where nothing is
        asked (PMI).
        """
        return cue(self.template)

    @property
    def ends(self) -> tuple[str, ...]:
        """The texts by which an answer is over: where a next demonstration would begin."""
        return tuple(filter(None, [self.template.boundary]))

    @property
    def channel(self) -> ChannelTemplate:
        """The template turned about: the label first, then the input."""
        return split(self.template)

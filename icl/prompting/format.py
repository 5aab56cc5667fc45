"""`Format`: what turns demonstrations and a query into the text that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from icl.prompting.channel import ChannelTemplate, cue, split
from icl.tasks.template import Fields, Template

Demonstrations = Sequence[tuple[Fields, str]]
"""Demonstrations as (fields, the label's word) pairs."""


class Format(Protocol):
    """A way of writing prompts; `Template` in plain text, or a model's own chat."""

    def prompt(self, demonstrations: Demonstrations, fields: Fields) -> str:
        """Return all that stands before the answer."""

    def answer(self, word: str) -> str:
        """Return the answer as it stands after the prompt, leading blank included."""

    def domain(self) -> str:
        """Return the text that stands before an answer where nothing is asked (PMI)."""


@dataclass(frozen=True, slots=True)
class PlainFormat:
    """Prompts in the words of a template, and nothing around them."""

    template: Template

    def prompt(self, demonstrations: Demonstrations, fields: Fields) -> str:
        """Return instruction, demonstrations and the query's input."""
        return self.template.prompt(demonstrations, fields)

    def answer(self, word: str) -> str:
        """Return the template's target."""
        return self.template.answer(word)

    def domain(self) -> str:
        """Return the template's cue: what stands after its last field, e.g. ``Kind:``."""
        return cue(self.template)

    @property
    def channel(self) -> ChannelTemplate:
        """The template turned about: the label first, then the input."""
        return split(self.template)

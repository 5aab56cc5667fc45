"""Templates turned about, for scoring inputs given labels (the channel direction).

Min et al. 2022, "Noisy channel language model prompting" (arXiv 2108.04106): demonstrations are
``y_1 x_1 … y_k x_k`` and a label's score is ``log p(x | y)``. The template's cue, what stands on a
line of its own after the last field, goes with the label::

    Word: January        Kind: month
    Kind: month    ->    Word: January
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from icl.tasks.template import Fields, Template


@dataclass(frozen=True, slots=True)
class ChannelTemplate:
    """A template whose demonstrations name the label before the input.

    Attributes:
        body: the template without its cue.
        lead: the cue that goes before the label's word, e.g. ``Kind:``; may be empty.
    """

    body: Template
    lead: str

    def label(self, word: str) -> str:
        """Return the text that names a label, line break included."""
        return (self.body.before_answer(self.lead) + self.body.answer(word)).lstrip() + "\n"

    def prompt(self, demonstrations: Sequence[tuple[Fields, str]], word: str) -> str:
        """Return all that stands before the input whose probability is taken."""
        shown = (self.label(w) + self.input(f) + self.body.separator for f, w in demonstrations)
        return self.body.instruction + "".join(shown) + self.label(word)

    def input(self, fields: Fields) -> str:
        """Return the input: what is scored."""
        return self.body.render(fields)


def split(template: Template) -> ChannelTemplate:
    """Turn a template about.

    A template whose last line shows a field, or that has one line only, has no cue: its whole
    input follows the bare label.
    """
    head, line, last = template.input.rpartition("\n")
    if not line or "{" in last or "{" not in head:
        return ChannelTemplate(template, "")
    return ChannelTemplate(replace(template, input=head), last)


def cue(template: Template) -> str:
    """Return what stands after the template's last field, e.g. ``Kind:``.

    >>> cue(Template(input="Word: {{ text }}\\nKind:"))
    'Kind:'
    """
    source = template.input
    end = max(source.rfind("}}"), source.rfind("%}"))
    return template.before_answer(source[end + 2 if end >= 0 else 0 :].lstrip())

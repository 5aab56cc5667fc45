"""Label words that a model could not tell apart: the one check, which all who take words use."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from icl.tasks.template import render

_BARE = "{{ label }}"


@dataclass(frozen=True, slots=True)
class Clash:
    """Two labels that look the same in a prompt.

    Attributes:
        first, second: their names.
        shown: how both look.
    """

    first: str
    second: str
    shown: str

    def __str__(self) -> str:
        """Say it, as a part of a sentence."""
        return f"{self.shown!r} is the word of both {self.first!r} and {self.second!r}"


def clash(words: Mapping[str, str], target: str = _BARE) -> Clash | None:
    """Return the first two labels whose answers look the same; None where all differ.

    Answers are compared as the template's target renders them, without the blanks around them and
    in Unicode's composed form.

    >>> str(clash({"bad": "x", "good": "x "}))
    "'x' is the word of both 'bad' and 'good'"
    >>> clash({"bad": "no", "good": "yes"}, " the same").shown
    'the same'

    Args:
        words: label name -> word.
        target: see `icl.tasks.template.Template`.

    Raises:
        IclError: the target cannot be rendered.
    """
    bare = target.strip() == _BARE  # which shows the word itself: nothing has to be rendered
    seen: dict[str, str] = {}
    for name, word in words.items():
        answer = word if bare else render(target, {"label": word})
        shown = unicodedata.normalize("NFC", answer.strip())
        if shown in seen:
            return Clash(seen[shown], name, shown)
        seen[shown] = name
    return None

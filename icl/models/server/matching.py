"""Matching what a model has said to the answers that it could have given."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def plain(text: str) -> str:
    """Fold case, width and blanks, and drop what is neither letter nor digit at either end.

    >>> plain(" **Ｍonth**.")
    'month'
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _EDGES.sub("", folded) or folded


def match(text: str, answers: Sequence[str]) -> int | None:
    """Return the answer that a text gives, or None: the text itself, else the first one in it.

    Of two that begin at the same place the longer one counts.

    >>> match("The kind is: weekday, not month.", ["month", "weekday", "week"])
    1
    """
    said, words = plain(text), [plain(answer) for answer in answers]
    if said in words:
        return words.index(said)
    found = []
    for index, word in enumerate(words):
        # Scripts without blanks have no word boundaries, so there a word may stand anywhere.
        pattern = rf"(?<!\w){re.escape(word)}(?!\w)" if word.isascii() else re.escape(word)
        hit = re.search(pattern, said) if word else None
        if hit is not None:
            found.append((hit.start(), -len(word), index))
    return min(found)[2] if found else None

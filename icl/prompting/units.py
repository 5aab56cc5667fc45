"""Words of any script: split at blanks and punctuation, and by character where none are written."""

from __future__ import annotations

import re
import unicodedata

# Scripts written without blanks between words: Han, Kana, Thai, Lao, Myanmar, Khmer, Tibetan.
_UNSPACED = (
    "\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u3099\u309a"
_UNIT = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\W{_UNSPACED}]+(?:[{_MARKS}]+[^\W{_UNSPACED}]*)*")
_ALONE = re.compile(f"[{_UNSPACED}]")


def units(text: str) -> list[str]:
    """Return a text's words, case folded and in NFKC, so that spellings of one word agree.

    A character of a script that writes no blanks between words is a word by itself.

    >>> units("The cat's 2 mats"), units("東京タワー")
    (['the', 'cat', 's', '2', 'mats'], ['東', '京', 'タ', 'ワ', 'ー'])
    """
    return _UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def pieces(text: str) -> list[str]:
    """Return what a text is made of as it stands: words with their punctuation, or characters.

    >>> pieces("The cat's mat."), pieces("東京")
    (['The', "cat's", 'mat.'], ['東', '京'])
    """
    found: list[str] = []
    for chunk in text.split():
        found += _UNIT.findall(chunk) if _ALONE.search(chunk) else [chunk]
    return found


def joined(parts: list[str]) -> str:
    """Put pieces together again: with blanks, but for scripts that write none.

    >>> joined(["a", "cat"]), joined(["東", "京"])
    ('a cat', '東京')
    """
    text = ""
    for part in parts:
        bare = not text or (_ALONE.search(text[-1]) and _ALONE.match(part))
        text += part if bare else " " + part
    return text

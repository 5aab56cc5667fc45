"""Written answers against their references: exact match and token F1, for any script.

Rajpurkar et al. 2016 (SQuAD) compare after dropping English articles and all punctuation. That
makes ``3.5`` and ``35`` equal, so here only punctuation around an answer is dropped, and no
language's articles are. Where scripts write without blanks, each letter is a token, as in MLQA
(Lewis et al. 2020).
"""

from __future__ import annotations

import unicodedata
from collections import Counter

# Letters of scripts without blanks between words: first and last code point.
_UNSPACED = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3134F),
)
_SIGNS = frozenset("+-−%°")  # these belong to a number that they stand at


def plain(answer: str) -> str:
    """Fold case, width, composition and blanks, and drop punctuation around the answer.

    >>> plain(" «Ｐaris» ."), plain("-3.50"), plain("٣٫٥؟")
    ('paris', '-3.50', '٣٫٥')
    """
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    first, last = 0, len(text)
    while first < last and _outer(text[first]):
        first += 1
    while last > first and _outer(text[last - 1]):
        last -= 1
    return text[first:last]


def exact_match(answer: str, reference: str) -> float:
    """Return 1 where answer and reference are the same after `plain`, else 0.

    >>> exact_match("42.", "42"), exact_match("-42", "42")
    (1.0, 0.0)
    """
    return float(plain(answer) == plain(reference))


def tokens(text: str) -> list[str]:
    """Part a text into folded words, and into letters where a script has no blanks.

    Punctuation parts words and is dropped, but between two digits it stays.

    >>> tokens("Don't pay 3.50!"), tokens("東京 tower"), tokens("नमस्ते दुनिया")
    (['don', 't', 'pay', '3.50'], ['東', '京', 'tower'], ['नमस्ते', 'दुनिया'])
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words: list[str] = []
    word = ""
    for at, letter in enumerate(folded):
        category = unicodedata.category(letter)[0]
        between_digits = word[-1:].isdigit() and folded[at + 1 : at + 2].isdigit()
        if (category in "LMN" and not unspaced(letter)) or (category == "P" and between_digits):
            word += letter
        elif category == "M" and words and not word:  # on a letter that is a token of its own
            words[-1] += letter
        else:
            words += [word] if word else []
            word = ""
            if category in "LN":
                words.append(letter)
    return [*words, word] if word else words


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the answer's tokens, as a multiset, against the reference's.

    Where one of the two has no token, it is 1 if the other has none either, else 0.

    >>> token_f1("the red cat", "red cat")
    0.8
    """
    ours, theirs = Counter(tokens(answer)), Counter(tokens(reference))
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def unspaced(letter: str) -> bool:
    """Tell whether a letter is of a script that writes without blanks between words."""
    code = ord(letter)
    return any(first <= code <= last for first, last in _UNSPACED)


def _outer(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "PZC" and letter not in _SIGNS

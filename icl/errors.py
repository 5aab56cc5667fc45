"""Faults that the user can mend, each told in one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MOST_SHOWN = 25


class IclError(Exception):
    """A fault in what the user gave: the message is one sentence that names the place and the mend.

    The command line prints the message without a traceback and exits with code 2.
    """


class NewerSchemaError(IclError, ValueError):
    """A file that a newer icl has written."""

    def __init__(self, what: object, version: int, known: int) -> None:
        """Name what has the version, the version, and the last one that is known here."""
        super().__init__(
            f"{what} has the schema version {version}, which a newer icl has written; this one"
            f" reads versions up to {known}: update icl."
        )


def in_short(error: BaseException) -> str:
    """Return the first sentence of what an error says, on one line, without its full stop."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:300]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or the list of known names.

    >>> did_you_mean("prototpyes", ["prototypes", "majority"])
    " Did you mean 'prototypes'?"
    >>> did_you_mean("zzz", ["b", "a"])
    ' Known: a, b.'
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    shown = [choice if choice.isprintable() else repr(choice) for choice in choices[:_MOST_SHOWN]]
    more = f" and {len(choices) - len(shown)} more" if len(choices) > len(shown) else ""
    return f" Known: {', '.join(shown)}{more}."


def one_line(text: object) -> str:
    r"""Return a message as one line that moves no cursor, whatever names and addresses it holds.

    >>> one_line("no file a\nb\x1b[2J"), one_line("http://me:secret@host/v1 is down")
    ('no file a b [2J', 'http://…@host/v1 is down')
    """
    told = re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(text))
    return re.sub(r"//[^/\s@]+@", "//…@", told)

"""What a value out of a file may be, where JSON allows more than we can work with."""

from __future__ import annotations

from typing import Any

MOST = 1e30  # of anything that is spent; sums of it stay finite


def is_text(value: Any) -> bool:
    """Tell whether this is a text that can be written: no half of a surrogate pair.

    >>> is_text("слово"), is_text("\\ud800"), is_text(3)
    (True, False, False)
    """
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_amount(value: Any) -> bool:
    """Tell whether this is a number from zero that sums can be taken of.

    >>> is_amount(3), is_amount(0.5), is_amount(float("nan")), is_amount(10**400), is_amount(True)
    (True, True, False, False, False)
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < MOST  # NaN compares false

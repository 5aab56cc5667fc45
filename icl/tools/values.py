"""What a value out of a file may be, where JSON allows more than we can work with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

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


def plain(fields: BaseModel) -> dict[str, Any]:
    """Return fields as JSON values, sets in an order that is the same in every process."""
    told: dict[str, Any] = _in_order(fields.model_dump(), fields.model_dump(mode="json"))
    return told


def _in_order(value: Any, told: Any) -> Any:
    """Put in order the lists that JSON has where there are sets; the rest stays as it is told."""
    if isinstance(value, set | frozenset):
        return sorted(told, key=json.dumps)
    if isinstance(value, Mapping) and isinstance(told, dict) and len(value) == len(told):
        pairs = zip(told.items(), value.values(), strict=True)
        return {name: _in_order(own, said) for (name, said), own in pairs}
    if isinstance(value, list | tuple) and isinstance(told, list) and len(value) == len(told):
        return [_in_order(own, said) for own, said in zip(value, told, strict=True)]
    return told

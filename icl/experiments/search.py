"""What of a learner is searched: a grid of values, and the trials that are taken from it.

A trial is a choice of values by parameter, ``training.<field>`` for those of meta-training. The
first is the learner as it is configured; the others are points of the grid, in an order that a hash
of the point and the seed gives. So they hang neither on the learner's name nor on the order in
which values are listed, and more trials begin with the fewer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.learners.base import Choices

TRAINING = "training."
_MOST = 100_000  # points of a grid

Values = Mapping[str, Any]
Apply = Callable[[Values], Any]


def check_names(choices: Choices, known: Values) -> None:
    """Check that a method has what is to be searched, each with values that differ.

    Args:
        choices: the values to try, by parameter.
        known: all parameters, with their configured values.

    Raises:
        IclError: a parameter that there is not, no values, a value twice, or more points than can
            be looked at.
    """
    for name, values in choices.items():
        if name not in known:
            raise IclError(
                f"`search` names {name!r}, which is no parameter of the method.{_hint(name, known)}"
            )
        told = [_text(value) for value in values]
        if not values or len(set(told)) < len(told):
            raise IclError(f"`search` gives {name!r} no values, or one twice; name each once.")
    if prod(map(len, choices.values())) > _MOST:
        raise IclError(f"`search` has more than {_MOST:,} combinations; name fewer values.")


def check_values(choices: Choices, apply: Apply) -> None:
    """Raise `IclError` for a value that fits neither what is configured nor any other choice.

    Args:
        choices: the values to try, by parameter.
        apply: raises `IclError` for values that the method does not take together.
    """
    for name, values in choices.items():
        for value in values:
            _check_value(name, value, choices, apply)


def _hint(name: str, known: Values) -> str:
    if name.startswith(TRAINING) and not any(key.startswith(TRAINING) for key in known):
        return " It is not meta-trained; drop it."
    return did_you_mean(name, known)


def _check_value(name: str, value: Any, choices: Choices, apply: Apply) -> None:
    try:
        apply({name: value})
        return
    except IclError as error:
        others = {key: values for key, values in choices.items() if key != name}
        if others and any(_fits({name: value, **p}, apply) for p in _points(others)):
            return
        raise IclError(f"`search` gives {name!r} the value {_text(value)}: {error}") from error


def draw_trials(
    choices: Choices, known: Values, apply: Apply, *, count: int, seed: int
) -> list[Values]:
    """Return the values of each trial, the configured ones first.

    Args:
        choices, known: as for `check_names`.
        apply: as for `check_values`; combinations that it refuses are no points of the grid.
        count: how many at most; there are fewer where the grid has no more.
        seed: of the order in which points are taken.
    """
    given = {name: known[name] for name in choices}
    found: list[Values] = [given]
    seen = {_text(given)}
    for point in sorted(_points(choices), key=lambda p: _lot(seed, p)):
        if len(found) == count:
            break
        if _fits(point, apply) and _text(point) not in seen:
            seen.add(_text(point))
            found.append(point)
    return found


def _points(choices: Choices) -> Iterator[dict[str, Any]]:
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _fits(values: Values, apply: Apply) -> bool:
    try:
        apply(values)
    except IclError:
        return False
    return True


def _text(value: Any) -> str:
    """Return a value's canonical text; a whole number is spelt in one way only."""
    return json.dumps(_whole(value), sort_keys=True, ensure_ascii=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _whole(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(own) for own in value]
    return value


def _lot(seed: int, point: Values) -> str:
    return hashlib.sha256(f"trial/{seed}/{_text(point)}".encode()).hexdigest()

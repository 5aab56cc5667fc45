"""``--set key=value``: fields given on the command line, typed as YAML is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from icl.errors import IclError
from icl.tools.yamlfile import Loc, Places

_OPTION = "--set"
_PRIVATE = ("server", "key", "token", "secret", "password")


def shown(assignment: str) -> str:
    """Return an assignment as messages show it: without a value that may be a secret.

    >>> shown("learners.lora.steps=20"), shown("model.server.key_env=sk-123")
    ('--set learners.lora.steps=20', '--set model.server.key_env=…')
    """
    path, sign, _ = assignment.partition("=")
    private = "@" in assignment or any(word in path.lower() for word in _PRIVATE)
    return f"{_OPTION} {path}{sign}…" if private else f"{_OPTION} {assignment}"


def parse(assignment: str) -> tuple[tuple[str, ...], Any]:
    """Read ``a.b=value`` as a path and a value.

    >>> parse("learners.lora.steps=20")
    (('learners', 'lora', 'steps'), 20)
    >>> parse("episodes.shots=[1, 4]")
    (('episodes', 'shots'), [1, 4])

    Raises:
        IclError: there is no path or no value.
    """
    path, sign, text = assignment.partition("=")
    parts = tuple(part.strip() for part in path.split("."))
    if not sign or not all(parts):
        raise IclError(
            f"{shown(assignment)} is no assignment; write a field's path, = and a value, such"
            " as learners.lora.steps=20."
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise IclError(f"{shown(assignment)}: the value is not valid YAML.") from error
    # as in files: the language code for Norwegian stays a word
    if isinstance(value, bool) and text.strip().lower() in ("no", "yes", "on", "off"):
        value = text.strip()
    return parts, value


def nested(assignments: Sequence[str]) -> dict[str, Any]:
    """Return assignments as a mapping of mappings; of two to one field, the later counts."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        found, _ = assign(found, {}, assignment)
    return found


def assign(data: Any, places: Places, assignment: str) -> tuple[Any, Places]:
    """Return a YAML file's value with one field set, and the places with the field's own.

    Mappings that are missing on the way are made. A number in a path is an item of a list. What
    comes from the command line has its option for a file and the line 0.

    Raises:
        IclError: the path leads through something that has no fields, or past a list's end.
    """
    path, value = parse(assignment)
    origin = (Path(shown(assignment)), 0)
    spots: dict[Loc, tuple[Path, int]] = dict(places)
    loc, changed = _put(data, path, value, assignment)
    for known in [known for known in spots if known[: len(loc)] == loc]:
        del spots[known]
    for depth in range(len(loc) + 1):
        spots.setdefault(loc[:depth], origin)
    spots.update(((*loc, *inner), origin) for inner in _inside(value))
    return changed, spots


def _put(data: Any, path: Sequence[str], value: Any, assignment: str) -> tuple[Loc, Any]:
    """Return where the field is, and a copy of the data in which it has the value."""
    if not path:
        return (), value
    first, *rest = path
    if isinstance(data, list):
        if not first.isdecimal() or int(first) >= len(data):
            raise IclError(
                f"{shown(assignment)}: {first!r} is no item of a list of {len(data)}; count from 0."
            )
        place = int(first)
        loc, inner = _put(data[place], rest, value, assignment)
        return (place, *loc), [*data[:place], inner, *data[place + 1 :]]
    if data is not None and not isinstance(data, Mapping):
        raise IclError(f"{shown(assignment)}: there are no fields in {data!r}; shorten the path.")
    loc, inner = _put((data or {}).get(first), rest, value, assignment)
    return (first, *loc), {**(data or {}), first: inner}


def _inside(value: Any) -> list[Loc]:
    pairs: Iterable[tuple[Any, Any]] = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, Mapping):
        pairs = value.items()
    return [(), *((key, *inner) for key, own in pairs for inner in _inside(own))]

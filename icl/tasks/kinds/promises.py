"""Holding somebody's own kind of task to what its methods promise, wherever they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from pydantic_core import PydanticCustomError

from icl.errors import IclError, in_short
from icl.tasks.kinds.base import Kind, Metric, Question, Target
from icl.tasks.kinds.classification import Classification
from icl.tasks.task import Labels


def _is_fields(found: Any) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(part, str) for pair in found.items() for part in pair
    )


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda found: all(isinstance(one, kind) for one in found)


# method -> whether this is what it promises, and how that is said; of the others nothing is asked
_PROMISED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "check": (lambda _: True, ""),
    "check_columns": (lambda _: True, ""),
    "settle": (lambda _: True, ""),  # which is judged by `icl.runs.judge`
    "target": (
        lambda t: isinstance(t, Target) and isinstance(t.label, str) and _is_fields(t.fields),
        "a `Target` of a text, and fields that are texts",
    ),
    "shows": (_are(str), "names of fields"),
    "strata": (_are(str), "texts"),
    "stratum": (lambda s: isinstance(s, str), "a text"),
    "among": (_are(str), "names of labels"),
    "space": (lambda s: isinstance(s, Labels), "`Labels`"),
    "questions": (
        lambda qs: all(isinstance(q, Question) and _is_fields(q.fields) for q in qs),
        "`Question`s, whose fields are texts",
    ),
    "measures": (
        lambda m: bool(m) and isinstance(m, Mapping) and _are(str)(m) and _are(Metric)(m.values()),
        "one `Metric` or more by name",
    ),
    "show": (lambda s: isinstance(s, str), "a text"),
}
_LISTS = ("shows", "strata", "among", "questions")


def hold(own: type[Kind], name: str) -> type[Kind]:
    """Let all that a class's own methods do wrong be told in one sentence; return the class.

    Raises:
        IclError: it has methods that would never be asked.
    """
    lost = [m for m in ("settle", "measures") if _is_own(own, m)] if own.single else []
    if lost and (issubclass(own, Classification) or "settle" in lost):
        raise IclError(
            f"The kind of task {name!r} is `single`, of which the labels that are right are"
            f" counted: its `{lost[0]}` would never be asked; set `single = False`."
        )
    for method in _PROMISED:
        if _is_own(own, method) and not hasattr(getattr(own, method), "held"):
            setattr(own, method, _held(getattr(own, method), method, name))
    return own


def _is_own(own: type[Kind], method: str) -> bool:
    module: str = getattr(getattr(own, method), "__module__", "")
    return not module.startswith("icl.")


def _held(method: Callable[..., Any], called: str, name: str) -> Callable[..., Any]:
    kept, told = _PROMISED[called]

    @wraps(method)
    def held(*arguments: Any, **named: Any) -> Any:
        try:
            found = method(*arguments, **named)
            if called in _LISTS and not isinstance(found, str):
                found = tuple(found)
            right = kept(found) and not (called in _LISTS and isinstance(found, str))
        except (IclError, PydanticCustomError):
            raise
        except Exception as error:  # somebody's own code may fail in any way
            raise IclError(
                f"The kind of task {name!r} fails in `{called}`: {type(error).__name__}:"
                f" {in_short(error) or 'no reason given'}; mend it."
            ) from error
        if not right:
            raise IclError(
                f"The kind of task {name!r} returns {_short(found)} from `{called}`; let it return"
                f" {told}."
            )
        return found

    held.held = True  # type: ignore[attr-defined]
    return held


def _short(found: Sequence[Any] | Any) -> str:
    text = " ".join(repr(found).split())
    return text if len(text) < 80 else f"{text[:77]}..."

"""The sandbox in which a model's own chat template runs: transformers' dialect, with bounds.

A chat template comes with the model's files and is nobody's here: it may loop without end or
double a text until the memory is full, which transformers lets it. What it may use is what
transformers gives it (`transformers.utils.chat_template_utils`), but for today's date: a run
tomorrow must ask the same, so that a template that asks for the date is told a fixed one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from icl.errors import IclError
from icl.tasks.sandbox import Sandbox, weigh
from icl.tasks.template import reason

Message = Mapping[str, str]

_TODAY = datetime(2025, 1, 1)
_WIDEST = 16
_COPIES = 4  # of what was given that a template may show, or hold on the way
_ROUNDS_A_MESSAGE = 100


class RefusedError(Exception):
    """A chat template does not lay out a conversation; the message says why."""


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's words for training, which changes no text."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja2 has it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _ChatSandbox(Sandbox):
    def __init__(self) -> None:
        super().__init__(
            undefined=Undefined,
            keep_trailing_newline=False,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
        )
        allowed = dict(self.filters)
        for name in ImmutableSandboxedEnvironment().filters:  # maybe in a branch that is not taken
            self.filters[name] = allowed.get(name) or _forbidden(name)
        self.filters |= {"tojson": _json, "safe": str}
        self.globals |= {
            "raise_exception": _refuse,
            "strftime_now": _TODAY.strftime,
            "dict": _mapping,
            "namespace": Namespace,
        }


def render_chat(
    source: str, messages: Sequence[Message], values: Mapping[str, Any], *, begun: bool = True
) -> str:
    """Return a conversation as the model reads it.

    Args:
        source: the chat template.
        messages: with ``role`` and ``content``.
        values: what else the template sees: names of special tokens, and the user's own.
        begun: whether the assistant's next turn is opened.

    Raises:
        RefusedError: the template refuses it, fails, or makes far more text than it was given.
    """
    size = sum(len(message["content"]) for message in messages)
    told = [dict(message) for message in messages]
    seen = {"messages": told, "tools": None, "documents": None, "add_generation_prompt": begun}
    try:
        return _SANDBOX.render(
            _read(source),
            {**seen, **values},
            given=_COPIES * size,
            rounds=_ROUNDS_A_MESSAGE * len(messages),
        )
    except Exception as error:  # a template is a program: it may fail in any way
        raise RefusedError(reason(error)) from error


@lru_cache(maxsize=64)
def variables(source: str) -> frozenset[str]:
    """Return the names that a chat template looks up; raises `IclError` where it is no Jinja2."""
    _read(source)
    return frozenset(find_undeclared_variables(_SANDBOX.parse(source)) - set(_SANDBOX.globals))


@lru_cache(maxsize=64)
def _read(source: str) -> Template:
    try:
        return _SANDBOX.read(source)
    except Exception as error:
        raise IclError(
            f"The tokenizer's chat template is not valid Jinja2: {reason(error)}; set `chat: none`."
        ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _mapping(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _forbidden(name: str) -> Any:
    def run(*args: Any, **kwargs: Any) -> NoReturn:
        raise SecurityError(f"the filter {name!r} is not allowed")

    return run


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
          separators: Any = None, sort_keys: bool = False) -> str:  # fmt: skip
    if isinstance(indent, str) or (indent or 0) > _WIDEST:
        raise SecurityError(f"an indent of more than {_WIDEST} is not allowed")
    weigh(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)  # fmt: skip


_SANDBOX = _ChatSandbox()

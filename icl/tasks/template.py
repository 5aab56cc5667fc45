"""Prompt templates: how an example is put before a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import StrictUndefined, TemplateError
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from icl.errors import IclError

Fields = Mapping[str, str]

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
)


@lru_cache(maxsize=1024)
def _compile(source: str) -> JinjaTemplate:
    try:
        return _ENVIRONMENT.from_string(source)
    except TemplateError as error:
        raise IclError(f"The template {source!r} is not valid Jinja2: {error}.") from error


def _render(source: str, values: Mapping[str, str]) -> str:
    try:
        return _compile(source).render(values)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise IclError(
            f"The template {source!r} cannot be rendered with the fields {sorted(values)}: {error}."
        ) from error


@dataclass(frozen=True, slots=True)
class Template:
    """Four strings that turn examples into a prompt; `input` and `target` are sandboxed Jinja2.

    A prompt is ``instruction + demo_1 + separator + … + demo_K + separator + input(query)``,
    where a demonstration is ``input(fields) + target(word)``.

    Attributes:
        input: what stands before the answer; sees the example's fields, e.g.
            ``"Word: {{ text }}\\nKind:"``.
        target: the answer; sees ``label``, the label's word. It carries its own leading blank.
        separator: stands between demonstrations, and after the last one.
        instruction: stands once at the start, with whatever blank lines should follow it.
    """

    input: str
    target: str = " {{ label }}"
    separator: str = "\n\n"
    instruction: str = ""

    def render(self, fields: Fields) -> str:
        """Render one example up to the answer; raises `IclError` for an unknown field."""
        return _render(self.input, fields)

    def answer(self, word: str) -> str:
        """Render the answer for a label's word, leading blank included."""
        return _render(self.target, {"label": word})

    def prompt(self, demonstrations: Sequence[tuple[Fields, str]], fields: Fields) -> str:
        """Render the whole prompt up to the answer; demonstrations are (fields, word) pairs."""
        return self.prefix(demonstrations) + self.render(fields)

    def prefix(self, demonstrations: Sequence[tuple[Fields, str]]) -> str:
        """Render what all queries share: the instruction and the demonstrations."""
        shown = (
            self.render(fields) + self.answer(word) + self.separator
            for fields, word in demonstrations
        )
        return self.instruction + "".join(shown)

"""Prompt templates: how an example is put before a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template as JinjaTemplate
from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from icl.errors import IclError
from icl.tasks.sandbox import Sandbox

Fields = Mapping[str, str]

_SANDBOX = Sandbox()
# Words of Jinja's own: a field of such a name would never be shown.
RESERVED = frozenset(
    {"and", "else", "false", "False", "if", "in", "is", "not", "none", "None", "or", "range",
     "self", "true", "True"}
)  # fmt: skip
# A template is one string: it loads no others and defines nothing.
_FOREIGN = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Macro,
            nodes.CallBlock, nodes.Block)  # fmt: skip


@lru_cache(maxsize=1024)
def template_fields(source: str) -> frozenset[str]:
    """Return the fields that a Jinja2 source shows.

    Raises:
        IclError: it is no Jinja2, loads other templates, or reaches for what is private.
    """
    _compile(source)
    tree = _SANDBOX.parse(source)
    for node in tree.find_all(_FOREIGN):
        kind = type(node).__name__.lower()
        raise IclError(
            f"The template {source!r} has a {kind}, which has no place in it; remove it."
        )
    for part in (part for output in tree.find_all(nodes.Output) for part in output.nodes):
        shown = _bare(part)
        if isinstance(shown, nodes.Const) and isinstance(shown.value, bool | None):
            raise IclError(
                f"The template {source!r} shows {str(shown.value).lower()!r}, which is a word of"
                " Jinja's own and no field; give the field another name."
            )
    reached: list[Any] = [node.attr for node in tree.find_all(nodes.Getattr)]
    reached += [getattr(node.arg, "value", None) for node in tree.find_all(nodes.Getitem)]
    reached += [node.name for node in tree.find_all(nodes.Name)]
    for name in reached:
        if isinstance(name, str) and (name.startswith("_") or name == "self"):
            raise IclError(
                f"The template {source!r} reaches for {name!r}, which is not a field; remove it."
            )
    return frozenset(find_undeclared_variables(tree) - set(_SANDBOX.globals))


def _bare(node: nodes.Node | None) -> nodes.Node | None:
    """Return what filters are put to."""
    return _bare(node.node) if isinstance(node, nodes.Filter) else node


@lru_cache(maxsize=1024)
def _compile(source: str) -> JinjaTemplate:
    try:
        return _SANDBOX.read(source)
    except Exception as error:  # a compiler may fail in any way on any text
        raise IclError(f"The template {source!r} is not valid Jinja2: {reason(error)}.") from error


def render(source: str, values: Mapping[str, Any]) -> str:
    """Render a Jinja2 source in the sandbox; raises `IclError` for whatever goes wrong."""
    try:
        return _SANDBOX.render(_compile(source), values)
    except IclError:
        raise
    except Exception as error:  # a template is a program: it may fail in any way
        raise IclError(
            f"The template {source!r} cannot be rendered with the fields {sorted(values)}: "
            f"{reason(error)}."
        ) from error


def reason(error: Exception) -> str:
    """Return what an error says as a part of a sentence; its kind where it says nothing."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@dataclass(frozen=True, slots=True)
class Template:
    """Four strings that turn examples into a prompt; `input` and `target` are sandboxed Jinja2.

    A prompt is ``instruction + demo_1 + separator + … + demo_K + separator + input(query)``,
    where a demonstration is ``input(fields) + target(word)``.

    Attributes:
        input: what stands before the answer; sees the example's fields, e.g.
            ``"Word: {{ text }}\\nKind:"``. A blank at its end is dropped where `target` begins with
            one.
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
        return self.before_answer(render(self.input, fields))

    def before_answer(self, text: str) -> str:
        """Drop blanks at a text's end where the answer brings its own, which would stand twice."""
        return text.rstrip(" \t") if self.target[:1] in (" ", "\t") else text

    @property
    def boundary(self) -> str:
        """Where a model goes on to a next example: the separator, and how every input begins.

        Empty where both are empty or blank.
        """
        opening = self.input.partition("{")[0].rstrip()
        whole = self.separator + opening
        return whole if whole.strip(" ") else ""

    def answer(self, word: str) -> str:
        """Render the answer for a label's word, leading blank included."""
        return render(self.target, {"label": word})

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

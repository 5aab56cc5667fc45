"""Named ways of writing the same task, made from the task's own template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from icl.errors import IclError, did_you_mean
from icl.tasks.template import Template, render, template_fields

TEMPLATES = ("task", "bare", "arrow", "question", "input-label", "review", "options")


def named(name: str, template: Template) -> Template:
    """Return a named template for a task.

    Args:
        name: one of `TEMPLATES`.
        template: the task's own; its fields and their order are kept.

    Raises:
        IclError: the name is unknown.
    """
    if name not in TEMPLATES:
        raise IclError(f"No template {name!r}." + did_you_mean(name, TEMPLATES))
    fields = "\n".join(f"{{{{ {field} }}}}" for field in ordered_fields(template))
    styles = {
        "task": template,
        "bare": Template(f"{fields}\n", "{{ label }}", "\n\n"),
        "arrow": Template(f"{fields} →", " {{ label }}", "\n"),
        "question": Template(f"Question: {fields}\nAnswer:", " {{ label }}", "\n\n"),
        "input-label": Template(f"Input: {fields}\nLabel:", " {{ label }}", "\n\n"),
        "review": Template(f"### Input:\n{fields}\n\n### Output:\n", "{{ label }}", "\n\n"),
        "options": replace(template, instruction="Labels: {{ labels }}.\n\n"),
    }
    return styles[name]


def instructed(template: Template, words: Sequence[str]) -> Template:
    """Fill the instruction, which may show ``{{ labels }}``: the words, sorted.

    Sorted, so that the order of the labels, which means nothing, changes nothing.
    """
    if "{" not in template.instruction:
        return template
    shown = render(template.instruction, {"labels": ", ".join(sorted(words))})
    return replace(template, instruction=shown)


def ordered_fields(template: Template) -> list[str]:
    """Return the fields that a template shows, in the order of their first appearance."""
    fields = template_fields(template.input)

    def place(field: str) -> tuple[int, str]:
        found = re.search(rf"(?<![\w.]){re.escape(field)}(?!\w)", template.input[start:])
        return (found.start() if found else len(template.input), field)

    start = max(template.input.find("{"), 0)  # literal text before may hold a field's name
    return sorted(fields, key=place)

"""Probing inputs that the model writes itself, read back through the template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl.prompting.fitting import fit
from icl.prompting.templates import ordered_fields
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields, Template

if TYPE_CHECKING:
    from icl.models.base import Model

_NEW_TOKENS = 64
_MARK = "\ue000{}\ue001"  # private use: no template's own text holds it


def written(
    backbone: Model,
    labels: Labels,
    orders: Sequence[tuple[Example, ...]],
    each: int,
    seed: int,
) -> list[Fields]:
    """Let the model go on after each order of demonstrations; return the inputs that it wrote.

    One sample of at most 64 tokens at temperature 1 is an input if the template can be read in it;
    its label is thrown away. There may be none. Demonstrations that leave no room for what is
    written are dropped, as everywhere.

    Args:
        backbone: the model.
        labels: words and template.
        orders: of the same demonstrations.
        each: samples after each order.
        seed: of the samples.
    """
    from icl.models.scoring.generate import generate

    words = dict(zip(labels.names, labels.words, strict=True))
    template = labels.template
    most = min(_NEW_TOKENS, backbone.context_length // 2)
    room = backbone.context_length - most

    def prompt(shown: Sequence[Example]) -> str:
        return template.prefix([(e.fields, words[e.label]) for e in shown])

    prompts = [
        prompt(fit(backbone.tokenizer, order, lambda some: [prompt(some)], room))
        for order in orders
    ]
    prompts = [text for text in prompts if text]
    stop = (template.separator,) if template.separator.strip(" ") else ()
    samples = generate(
        backbone,
        prompts,
        max_new_tokens=most,
        stop=stop,
        samples=each,
        temperature=1.0,
        seed=seed,
    )
    inputs = [read(template, text) for texts in samples for text in texts]
    distinct = {tuple(fields.items()): fields for fields in inputs if fields is not None}
    return list(distinct.values())


def read(template: Template, text: str) -> Fields | None:
    """Read an example's fields back from a text that begins with a rendered input.

    None where the text does not follow the template, a field is empty, or the template shows a
    field changed or more than once.

    >>> read(Template(input="Word: {{ text }}\\nKind:"), "Word: maí\\nKind: month")
    {'text': 'maí'}
    """
    names = ordered_fields(template)
    shown = template.render({name: _MARK.format(name) for name in names})
    parts = re.split("\ue000(.*?)\ue001", shown)
    if sorted(parts[1::2]) != sorted(names):
        return None
    pattern = "".join(
        re.escape(part) if i % 2 == 0 else "(.+?)" for i, part in enumerate(parts[:-1])
    )
    # a line ends the last field where the template has nothing after it
    pattern += re.escape(parts[-1]) if parts[-1] else r"(?:\n|$)"
    found = re.match(pattern, text, flags=re.DOTALL)
    if found is None or not all(value.strip() for value in found.groups()):
        return None
    return {name: value.strip() for name, value in zip(parts[1::2], found.groups(), strict=True)}

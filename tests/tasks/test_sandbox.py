"""What a template may make: what prompts need, and never a text that fills the memory."""

from __future__ import annotations

import tracemalloc

import pytest

from icl.errors import IclError
from icl.tasks.template import render, template_fields

FIELDS = {"text": "a cat", "choices": ["x", "y"], "n": 5, "of": {"k": "v"}}

BOMBS = [
    "{{ 'a' | center(1000000000) }}",
    "{{ text.ljust(1000000000) }}",
    "{{ text['ljust'](1000000000) }}",
    "{{ text.zfill(1000000000) }}",
    "{{ text.expandtabs(1000000000) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{% set f = '{:>1000000000}'.format %}{{ f(1) }}",
    "{{ text.replace('', 'b' * 10000).replace('b', 'c' * 10000) }}",
    "{{ text | replace('', 'b' * 10000) | replace('b', 'c' * 10000) }}",
    "{{ ','.join(['a' * 10000] * 10000) }}",
    "{{ (['a' * 10000] * 10000) | join }}",
    "{{ text | tojson(indent=1000000000) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{% set a = 9999 * 9999 %}{{ a * a }}",
    "{{ 'a' * 10000 * 10000 }}",
    "{{ [text] * 10000 * 10000 }}",
    "{{ [[1] * 1000] * 1000 }}",
    "{{ ([[1] * 10000] * 10000) | sum(start=[]) }}",
    "{{ range(1000000000) | list }}",
    "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}",
    "{% for i in range(300) %}{{ 'a' * 10000 }}{% endfor %}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
    "{% set a = [text] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
    "{% set a = [text] %}" + "{% set a = [a, a] %}" * 60 + "{{ a ~ '' }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_what_would_fill_the_memory_is_refused_before_it_does(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IclError):
            template_fields(source)
            render(source, FIELDS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_nothing_is_computed_when_a_template_is_read() -> None:
    assert template_fields("{{ ('a' * 9999) | replace('a', 'b' * 9999) }}") == frozenset()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ text | upper | trim }}", "A CAT"),
        ("{{ text ~ '-' ~ n }}", "a cat-5"),
        ("{{ text + '!' }}{{ 'x' * 3 }}", "a cat!xxx"),
        ("{{ choices }}", "['x', 'y']"),
        ("{{ choices | map('upper') | join('/') }}", "X/Y"),
        ("{{ ', '.join(choices) }}", "x, y"),
        ("{{ text.split(' ') | join(', ') }}", "a, cat"),
        ("{{ text.replace('a', 'b') }}{{ text | replace('a', 'b', 1) }}", "b cbtb cat"),
        ("{{ n + 1 }} {{ n // 2 }} {{ n % 2 }} {{ n * 2 }}", "6 2 1 10"),
        ("{{ of.k }}{{ choices[0] }}{{ none }}{{ 1.5 }}", "vxNone1.5"),
        ("{{ [1, 2] | sum }}{{ range(3) | list }}", "3[0, 1, 2]"),
        ("{% for c in choices %}{{ loop.index }}.{{ c }}{{ '' if loop.last else ',' }}"
         "{% endfor %}", "1.x,2.y"),
    ],
)  # fmt: skip
def test_what_prompts_need_is_there(source: str, shown: str) -> None:
    assert render(source, FIELDS) == shown


def test_rounds_are_counted_anew_for_each_example() -> None:
    source = "{% for i in range(60000) %}{% endfor %}{{ text }}"
    assert render(source, FIELDS) == render(source, FIELDS) == "a cat"

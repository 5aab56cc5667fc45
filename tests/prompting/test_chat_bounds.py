"""A model's own chat template: bounded, never a traceback, and it shows what is said."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from icl.errors import IclError
from icl.prompting.chat import ChatFormat, chat_format
from icl.tasks.template import Template
from tests import tiny
from tests.prompting.test_chat import ALL

TEMPLATE = Template("Word: {{ text }}\nKind:")
SAY = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def tokenizer(chat_template: str) -> Any:
    made = copy.deepcopy(tiny.tokenizer())
    made.chat_template = chat_template
    return made


BOMBS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "doubling": "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(60) %}"
    "{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a }}",
    "blocks": "{% set a %}aaaaaaaa{% endset %}"
    + "{% set a %}{{ a }}{{ a }}{% endset %}" * 40
    + "{{ a }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% else %}aa{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "silent macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "json": "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% endfor %}{{ ns.a | tojson }}",
    "division": "{{ 1 // 0 }}",
    "center": "{{ 'a' | center(1000000000) }}",
    "nothing": "{{ messages[99].content.x }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_chat_template_that_never_ends_or_fails_is_told_in_a_sentence(name: str) -> None:
    chat = chat_format(tokenizer(BOMBS[name] + SAY), TEMPLATE, "turns", "")
    start = time.process_time()
    with pytest.raises(IclError, match="refuses a conversation"):
        chat.prompt([], {"text": "Juni"})
    assert time.process_time() - start < 30  # and not until it is killed


def test_a_chat_template_that_is_no_jinja_is_told() -> None:
    with pytest.raises(IclError, match="not valid Jinja2"):
        chat_format(tokenizer("{% for %}"), TEMPLATE, "turns", "")


@pytest.mark.parametrize(
    ("source", "role"),
    [("<user>{% if add_generation_prompt %}<assistant>{% endif %}", "user"),
     ("{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}", "assistant"),
     ("{{ messages[-1].content }}", "user")],
)  # fmt: skip
def test_a_chat_template_that_drops_what_is_said_is_refused(source: str, role: str) -> None:
    with pytest.raises(IclError, match=f"drops what the {role} says"):
        chat_format(tokenizer(source), TEMPLATE, "turns", "")
    if role == "assistant":  # in one message the assistant says nothing
        chat_format(tokenizer(source), TEMPLATE, "message", "")


DIALECT = (
    "{%- macro say(m, end='<e>') -%}\n<{{ m.role }}>{{ m['content'] | trim }}{{ end }}\n"
    "{%- endmacro -%}\n"
    "{%- set ns = namespace(n=0) -%}\n"
    "{% for m in messages[::-1] %}\n    {%- set ns.n = ns.n + 1 %}\n{% endfor %}\n"
    "{% for m in messages %}\n  {% generation %}{{ say(m) }}{% endgeneration %}\n"
    "  {%- if loop.last %}{% break %}{% endif %}\n{% endfor %}\n"
    "{{ ns.n }} {{ {'a': [1, 'é']} | tojson }} {{ missing }}{{ bos_token }}\n"
    "{%- if tools %}{{ tools | groupby('x') }}{% endif %}\n"
    "{%- if think is not defined or think %} thinks{% endif %}\n"
    "{%- if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("name", [*ALL, "dialect"])
@pytest.mark.parametrize("options", [{}, {"think": False}])
def test_what_is_laid_out_is_what_transformers_lays_out(name: str, options: Any) -> None:
    found = tokenizer(DIALECT if name == "dialect" else ALL[name])
    found.backend_tokenizer.post_processor = None  # so that BOS stays in the text
    made = type(found)(tokenizer_object=found.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    made.chat_template = found.chat_template
    messages = [
        {"role": "user", "content": "Word: May\nKind:"},
        {"role": "assistant", "content": "month"},
        {"role": "user", "content": "Word: Juni\nKind:"},
    ]
    chat = ChatFormat(TEMPLATE, made, "turns", "", options)
    assert chat.prompt([({"text": "May"}, "month")], {"text": "Juni"}) == made.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **options
    )


def test_options_that_the_chat_template_does_not_know_are_refused() -> None:
    found = tokenizer(DIALECT)
    assert chat_format(found, TEMPLATE, "turns", "", {"think": False}).options == {"think": False}
    with pytest.raises(IclError, match="Did you mean 'think'"):
        chat_format(found, TEMPLATE, "turns", "", {"thnk": False})
    with pytest.raises(IclError, match="knows no 'messages'"):
        chat_format(found, TEMPLATE, "turns", "", {"messages": []})


def test_the_date_that_a_chat_template_asks_for_is_the_same_every_day() -> None:
    found = tokenizer("{{ strftime_now('%d %b %Y') }} " + SAY)
    assert "01 Jan 2025 " in chat_format(found, TEMPLATE, "turns", "").prompt([], {"text": "Juni"})


@pytest.mark.parametrize(
    ("name", "end"), [("chatml", "<|im_end|>"), ("llama3", "[eot]"), ("gemma", "<end>"),
                      ("mute", "<user>")],
)  # fmt: skip
def test_an_answer_ends_where_the_chat_template_ends_a_turn(name: str, end: str) -> None:
    assert chat_format(tokenizer(ALL[name]), TEMPLATE, "turns", "").ends == (end,)
    assert ChatFormat(TEMPLATE, tokenizer("{{ 1 // 0 }}")).ends == ()


def test_a_long_conversation_of_many_short_turns_is_laid_out() -> None:
    chat = chat_format(tokenizer(DIALECT), TEMPLATE, "turns", "")
    shown = [({"text": "x" * 200}, "month")] * 6_000
    assert len(chat.prompt(shown, {"text": "Juni"})) > 1_200_000

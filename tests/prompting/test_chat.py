"""Chats as instruct models are trained on: roles, one BOS, the assistant's turn."""

from __future__ import annotations

import copy

import pytest
import torch

from icl.errors import IclError
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.tokens import encode
from icl.prompting.chat import ChatFormat, chat_format
from icl.tasks.template import Template
from tests import tiny
from tests.learners import problems
from tests.reference import naive_scores

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] | trim }}[eot]"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
)
GEMMA = (  # no system role, the assistant is called model
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
    "<end>\n{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
MUTE = (  # drops the system's message without a word
    "{% for m in messages %}{% if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_TURNS = (
    "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}"
    "<user>{{ messages[0]['content'] }}{% if add_generation_prompt %}<assistant>{% endif %}"
)
ALL = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "mute": MUTE}
TEMPLATE = Template("Word: {{ text }}\nKind:", instruction="Name the kind.\n\n")
SHOWN = [({"text": "May"}, "month"), ({"text": "Montag"}, "weekday")]


def tokenizer(chat_template: str | None):  # type: ignore[no-untyped-def]
    made = copy.deepcopy(tiny.tokenizer())
    made.chat_template = chat_template
    return made


def conversation(system: bool) -> list[dict[str, str]]:
    """What the issue's roles are, written out by hand."""
    ask = ["Word: May\nKind:", "Word: Montag\nKind:", "Word: Juni\nKind:"]
    messages = [
        {"role": "user", "content": ask[0]},
        {"role": "assistant", "content": "month"},
        {"role": "user", "content": ask[1]},
        {"role": "assistant", "content": "weekday"},
        {"role": "user", "content": ask[2]},
    ]
    if system:
        return [{"role": "system", "content": "Name the kind."}, *messages]
    messages[0] = {"role": "user", "content": f"Name the kind.\n\n{ask[0]}"}
    return messages


@pytest.mark.parametrize("name", ALL)
def test_tokens_are_those_of_the_chat_template_with_bos_once(name: str) -> None:
    found = tokenizer(ALL[name])
    prompt = chat_format(found, TEMPLATE, "turns", "").prompt(SHOWN, {"text": "Juni"})
    messages = conversation(system=name in {"chatml", "llama3"})
    expected = found.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = encode(found, [prompt])[0].tolist()
    assert ids == [0, *found(expected.removeprefix("<s>"), add_special_tokens=False)["input_ids"]]
    assert ids.count(0) == 1


def test_a_tokenizer_that_adds_no_bos_keeps_the_chat_templates_own() -> None:
    found = tokenizer(LLAMA3)
    found.backend_tokenizer.post_processor = None
    found = type(found)(tokenizer_object=found.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    found.chat_template = LLAMA3
    prompt = chat_format(found, TEMPLATE, "turns", "").prompt([], {"text": "Juni"})
    assert encode(found, [prompt])[0].tolist().count(0) == 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prefix", ["", "Kind:"])
def test_a_query_answered_is_the_conversation_with_the_answer_in_it(name: str, prefix: str) -> None:
    found = tokenizer(ALL[name])
    chat = chat_format(found, TEMPLATE, "turns", prefix)
    answered = chat.prompt(SHOWN[:1], {"text": "Montag"}) + chat.answer("weekday")
    longer = chat.prompt(SHOWN, {"text": "Juni"})
    assert longer.startswith(answered)


def test_all_demonstrations_may_stand_in_one_message() -> None:
    chat = chat_format(tokenizer(CHATML), TEMPLATE, "message", "")
    assert chat.prompt(SHOWN, {"text": "Juni"}) == (
        "<|im_start|>system\nName the kind.<|im_end|>\n<|im_start|>user\n"
        "Word: May\nKind: month\n\nWord: Montag\nKind: weekday\n\nWord: Juni\nKind:<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_chat_template_that_takes_no_turns_is_told() -> None:
    chat = chat_format(tokenizer(NO_TURNS), TEMPLATE, "turns", "")
    with pytest.raises(IclError, match="set `chat: message`"):
        chat.prompt(SHOWN, {"text": "Juni"})
    one = ChatFormat(TEMPLATE, tokenizer(NO_TURNS), "message")
    assert one.prompt(SHOWN, {"text": "Juni"}).startswith("<user>Name the kind.\n\nWord: May")


def test_a_model_without_chat_template_is_told() -> None:
    predictor = make("in-context", {"chat": "turns"}, tiny.backbone()).adapt([], problems.labels())
    with pytest.raises(IclError, match="no chat template"):
        predictor.log_probs([{"text": "May"}])


@pytest.mark.parametrize("scoring", ["direct", "pmi"])
def test_labels_are_scored_in_the_assistants_turn(scoring: str) -> None:
    plain = tiny.backbone()
    backbone = Backbone(plain.model, tokenizer(GEMMA), "chatty")
    support, labels = problems.support(1), problems.labels()
    learner = make("in-context", {"chat": "turns", "scoring": scoring}, backbone)
    out = learner.adapt(support, labels).log_probs([{"text": "Juni"}])

    def turn(text: str) -> str:
        return f"<turn>user\n{text}<end>\n<turn>model\n"

    prompt = "".join(
        turn(f"Word: {e.fields['text']}\nKind:") + f"{e.label}<end>\n" for e in support
    )
    prompt += turn("Word: Juni\nKind:")
    scores = naive_scores(backbone, [prompt], labels.words)
    if scoring == "pmi":
        scores = scores - naive_scores(backbone, [turn("Kind:")], labels.words)
    torch.testing.assert_close(out, scores.log_softmax(1), atol=1e-4, rtol=0)

"""Written answers are asked for as chosen ones are: the same prompts, their own ends, one vote."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from icl.errors import IclError
from icl.learners.registry import make, validate
from icl.models.backbone import Backbone
from icl.prompting.consistency import ChainOfThought, vote
from icl.prompting.format import PlainFormat
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny
from tests.models.server.fake import FakeServer, connect, serving

TEMPLATE = Template("Q: {{ text }}\nA:", " {{ label }}", "\n\n", "Answer the question.\n\n")
FREE = Labels((), (), TEMPLATE)
SHOWN = [
    Example("1", {"text": "2+2", "why": "Two and two.\n\nSo four."}, "4", "xx", "1"),
    Example("2", {"text": "1+1", "why": "One and one."}, "2", "xx", "2"),
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
ENDS = ["<|im_start|>", "<|im_end|>"]


def tokenizer(chat_template: str = CHATML, special: bool = True) -> Any:
    made = copy.deepcopy(tiny.tokenizer())
    if special:
        made.add_special_tokens({"additional_special_tokens": ENDS})
    made.chat_template = chat_template
    return made


def asked(params: dict[str, Any], monkeypatch: pytest.MonkeyPatch, writes: str = "",
          made: Any = None) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """What a model is asked, by each call, and the answers read in what it is made to write."""
    calls: list[dict[str, Any]] = []

    def say(backbone: object, prompts: list[str], **options: Any) -> list[list[str]]:
        calls.append({"prompts": prompts, **options})
        return [[writes] * options["samples"] for _ in prompts]

    monkeypatch.setattr("icl.models.scoring.generate.generate", say)
    backbone = Backbone(tiny.backbone().model, made or tokenizer(), "chatty")
    predictor = make("in-context", params, backbone).adapt(SHOWN, FREE)
    return calls, predictor.generate([{"text": "3+3"}])


@pytest.mark.parametrize("thinking", [{}, {"enable_thinking": False}])
@pytest.mark.parametrize("prefix", ["", "Answer:"])
def test_in_a_chat_the_prompt_is_the_chat_templates_own(
    thinking: dict[str, Any], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"chat": "turns", "assistant_prefix": prefix, "chat_template_kwargs": thinking}
    (call,), _ = asked(params, monkeypatch)
    begun = f"{prefix} " if prefix else ""
    conversation = [
        {"role": "system", "content": "Answer the question."},
        {"role": "user", "content": "Q: 2+2\nA:"},
        {"role": "assistant", "content": f"{begun}4"},
        {"role": "user", "content": "Q: 1+1\nA:"},
        {"role": "assistant", "content": f"{begun}2"},
        {"role": "user", "content": "Q: 3+3\nA:"},
    ]
    whole = tokenizer().apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=True, **thinking
    )
    assert call["prompts"] == [whole + prefix]
    assert call["stop"] == ("<|im_end|>",)


def test_in_one_message_a_thought_stands_in_the_demonstrations_and_opens_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {"chat": "message", "rationale": "why", "answer_marker": "So:", "thought": "Hm."}
    (call,), answers = asked(params, monkeypatch, " Three.\n\nAnd three. So: 6")
    (prompt,) = call["prompts"]
    assert prompt.endswith("Q: 3+3\nA:<|im_end|>\n<|im_start|>assistant\nHm.")
    assert "Q: 1+1\nA: Hm. One and one. So: 2\n\n" in prompt
    assert answers == ["6"]


def test_a_thought_of_two_paragraphs_is_not_cut_where_a_next_example_would_begin_it_is() -> None:
    chain = ChainOfThought(PlainFormat(TEMPLATE), "So:", "why")
    assert chain.stops == ("\n\nQ:",)
    thought = " First.\n\nThen. So: 6"
    assert chain.stops[0] not in thought
    assert chain.answer(thought) == "6"
    # where an example begins with a field, the separator alone parts them: after the marker only
    bare = ChainOfThought(PlainFormat(Template("{{ text }}\n")), "So:")
    assert bare.stops == ()
    assert bare.answer("First.\n\nThen. So: 6\n\n9+9\nNine. So: 18") == "6"
    assert ChainOfThought(PlainFormat(Template("{{ text }}\n"))).stops == ("\n\n",)
    whole = ChainOfThought(PlainFormat(TEMPLATE), lines="all")
    assert whole.answer(" one\n\ntwo\n") == "one\n\ntwo"
    assert ChainOfThought(PlainFormat(TEMPLATE)).answer(" one\n\ntwo\n") == "one"


def test_a_special_token_at_the_end_of_a_turn_ends_a_generation() -> None:
    from icl.models.scoring.generate import generate

    plain, prompt = tiny.backbone(), "Q: May\nA:"
    ids = list(plain.tokenizer(prompt)["input_ids"])
    start = len(ids)
    for _ in range(8):
        with torch.no_grad():
            ids.append(int(plain.model(torch.tensor([ids])).logits[0, -1].argmax()))
    written = ids[start:]
    place = next(i for i, token in enumerate(written) if i and token not in ids[:start])
    spelt = plain.tokenizer.convert_ids_to_tokens(written[place])
    special = copy.deepcopy(plain.tokenizer)
    special.add_special_tokens({"additional_special_tokens": [spelt]})
    backbone = Backbone(plain.model, special, "ends")
    before = written[: written.index(written[place])]
    (cut,) = generate(backbone, [prompt], max_new_tokens=8, stop=[spelt])[0]
    assert cut == generate(backbone, [prompt], max_new_tokens=len(before))[0][0] != ""
    assert generate(backbone, [prompt], max_new_tokens=8)[0][0] != cut


def test_templates_and_orders_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"templates": ["question", "input-label"], "ensemble_orders": 2, "samples": 3,
              "temperature": 1.0}  # fmt: skip
    calls, _ = asked(params, monkeypatch)
    prompts = [call["prompts"][0] for call in calls]
    assert [p.partition("2+2")[0].splitlines()[-1].split()[0] for p in prompts] == (
        ["Q:"] * 2 + ["Question:"] * 2 + ["Input:"] * 2
    )
    said = iter([["a", "b", "b"], ["A", "b", "a."]])

    def say(backbone: object, prompts: list[str], **options: Any) -> list[list[str]]:
        return [next(said)]

    monkeypatch.setattr("icl.models.scoring.generate.generate", say)
    two = {"templates": ["question"], "samples": 3, "temperature": 1.0}
    predictor = make("in-context", two, tiny.backbone()).adapt(SHOWN, FREE)
    assert predictor.generate([{"text": "3+3"}]) == ["a"]
    assert vote(["a", "b", "b", "A", "b", "a."]) == "a"


REFUSED: list[dict[str, Any]] = [
    {"words": "letter"}, {"words": {"a": "b"}}, {"scoring": "channel"}, {"scoring": "pmi"},
    {"normalise": "token"}, {"calibration": "contextual"}, {"calibration": "batch"},
    {"template": "options"}, {"template": "best", "templates": ["question", "arrow"]},
    {"instruction": "One of {{ labels }}.\n"}, {"choice": "balanced", "demonstrations": 1},
    {"order": "global-entropy"}, {"rationale": "reason"},
]  # fmt: skip


@pytest.mark.parametrize("params", REFUSED, ids=str)
def test_what_compares_labels_is_refused_and_says_so(params: dict[str, Any]) -> None:
    name = next(iter(params))
    with pytest.raises(IclError, match=f"`{name}: .*drop it"):
        validate("in-context", params).check_task(FREE, SHOWN)
    predictor = make("in-context", params, tiny.backbone()).adapt(SHOWN, FREE)
    with pytest.raises(IclError, match=f"`{name}: "):
        predictor.generate([{"text": "3+3"}])


def test_every_parameter_means_something_where_answers_are_written_or_is_refused() -> None:
    known = set(validate("in-context", {}).__class__.model_fields)
    of_both = {"template", "input", "target", "separator", "instruction", "chat", "seed", "pool",
               "assistant_prefix", "chat_template_kwargs", "templates", "choice", "order",
               "demonstrations", "diversity", "ensemble_orders"}  # fmt: skip
    of_written = {"max_new_tokens", "stop", "answer_lines", "samples", "temperature",
                  "answer_marker", "rationale", "thought"}  # fmt: skip
    # the rest says how pmi or an order by entropy is done, which are refused
    with_others = {"domain_prompt", "candidates", "probes", "probe_count"}
    refused = {next(iter(params)) for params in REFUSED}
    assert known == of_both | of_written | with_others | refused


@pytest.mark.parametrize(
    "params",
    [{"stop": [""]}, {"target": " same"}, {"words": {"bad": "x", "good": "x "}},
     {"target": "{{ text }}"}, {"input": "{{ none }}"}, {"chat_template_kwargs": {"a": 1}}],
)  # fmt: skip
def test_parameters_that_cannot_be_meant_are_refused_at_once(params: dict[str, Any]) -> None:
    with pytest.raises(IclError, match=next(iter(params))):
        validate("in-context", params)


def test_on_a_server_of_completions_chat_and_ends_are_what_they_are_here(tmp_path: Any) -> None:
    tokenizer().save_pretrained(tmp_path)
    params = {"chat": "turns", "max_new_tokens": 3}
    with serving(FakeServer()) as server:
        model = connect(server, tokenizer=str(tmp_path))
        predictor = make("in-context", params, model).adapt(SHOWN, FREE)
        server.log.clear()
        predictor.generate([{"text": "3+3"}])
        (sent,) = server.log
    local = Backbone(tiny.backbone().model, tokenizer(), "chatty")
    chain = validate("in-context", params).chain(local.tokenizer, TEMPLATE)
    assert sent["prompt"] == chain.prompt(SHOWN, {}, {"text": "3+3"})
    assert sent["stop"] == ["<|im_end|>"]


def test_a_server_that_lays_out_chats_itself_refuses_a_learners_own() -> None:
    with serving(FakeServer()) as server:
        model = connect(server, api="chat")
        with pytest.raises(IclError, match="lays out chats itself"):
            make("in-context", {"chat": "turns"}, model)
        make("in-context", {}, model)


def test_a_study_of_written_answers_is_refused_before_a_model_loads(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.episodes import Episode
    from icl.experiments import prompt_study
    from icl.tasks.kinds.generation import Generation

    kind = Generation(metrics=("exact_match",))
    episode = Episode(
        "sum", FREE, (), (SHOWN[0],), 0, 0, 0, "test", "prompts", "xx", "xx", kind=kind
    )
    monkeypatch.setattr(prompt_study, "load_family", lambda *args, **options: None)
    monkeypatch.setattr(prompt_study, "draw", lambda *args: [episode])
    sets = {name: {"split": name, "count": 2} for name in ("validation", "test")}
    study = prompt_study.StudyConfig(
        schema_version=1, name="s", model={"name": "m"}, tasks={"family": "f"},
        episodes={"ways": 2, "shots": [0], "queries": 1, **sets}, factors={"template": ["task"]},
    )  # fmt: skip
    with pytest.raises(IclError, match="accuracies of single labels, which 'sum' has not"):
        prompt_study.run_study(study, tmp_path, command="")

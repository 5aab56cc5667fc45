"""Label scores from a server: equal to the local model's where they claim to be exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.scoring.scorer import label_scores
from tests import tiny
from tests.models.server.fake import FakeServer, connect

PROMPTS = ["Word: January\nKind:", "Word: Montag\nKind: ", "organ", "слово 月曜日"]
ANSWERS = [" month", " weekday", " organ", " organism", "ic"]  # several tokens, shared prefixes


def local(server: FakeServer, prompts: list[str] = PROMPTS) -> torch.Tensor:
    return label_scores(server.backbone, prompts, ANSWERS)


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
@pytest.mark.parametrize("way", ["echo", "next-token"])
def test_exact_ways_equal_the_local_model(server: FakeServer, kind: str, way: str) -> None:
    server.kind = kind
    model = connect(server, scoring=way)
    torch.testing.assert_close(
        label_scores(model, PROMPTS, ANSWERS), local(server), atol=1e-4, rtol=0
    )
    assert model.meter.scored == {way: len(PROMPTS) * len(ANSWERS)}


def test_echo_without_ids_finds_the_boundary_in_the_texts_of_tokens(server: FakeServer) -> None:
    server.kind = "another"
    model = connect(server, scoring="echo")
    assert not any("return_tokens_as_token_ids" in body for body in server.log)
    prompts = PROMPTS[:3]
    torch.testing.assert_close(
        label_scores(model, prompts, ANSWERS), local(server, prompts), atol=1e-4, rtol=0
    )


def test_one_token_answers_take_one_request_a_prompt(server: FakeServer) -> None:
    model = connect(server, scoring="next-token")
    before = len(server.log)
    label_scores(model, PROMPTS, ["a", "b", "c"])
    asked = server.log[before:]
    # a vocabulary of 320: twenty are named first, all of them where one was missing
    assert len([body for body in asked if body["logprobs"] == 20]) == len(PROMPTS)
    assert len(asked) <= 2 * len(PROMPTS) + 1  # one to see what a bias does


def test_more_alternatives_are_asked_for_until_every_answer_is_named(server: FakeServer) -> None:
    model = connect(server, scoring="next-token")
    label_scores(model, PROMPTS, ANSWERS)
    assert {body["logprobs"] for body in server.log if "logprobs" in body} >= {20, 320}


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_a_token_that_is_not_named_is_forced_and_has_its_unbiased_score(
    server: FakeServer, kind: str
) -> None:
    server.bias, server.echo, server.kind, server.most_logprobs = "raw", "refused", kind, 20
    model = connect(server, scoring="next-token")
    torch.testing.assert_close(
        label_scores(model, PROMPTS, ANSWERS), local(server), atol=1e-4, rtol=0
    )
    assert model.meter.scored == {"next-token": len(PROMPTS) * len(ANSWERS)}


def test_a_server_whose_bias_changes_what_it_reports_is_found_out(server: FakeServer) -> None:
    server.bias, server.echo, server.most_logprobs = "reported", "refused", 20
    model = connect(server, scoring="next-token")
    found, exact = label_scores(model, PROMPTS, ANSWERS), local(server)
    assert model.meter.scored["upper bound"] > 0
    assert bool((found >= exact - 1e-4).all())
    assert not bool((found > -1e-3).any())  # nothing is taken for certain


@pytest.mark.parametrize("clips", [True, False])
def test_answers_that_are_never_named_are_scored_by_echo(server: FakeServer, clips: bool) -> None:
    server.most_logprobs, server.clips = 20, clips
    model = connect(server, scoring="next-token")
    torch.testing.assert_close(
        label_scores(model, PROMPTS, ANSWERS), local(server), atol=1e-4, rtol=0
    )
    assert model.meter.scored["echo"] > 0
    assert model.meter.scored.total() == len(PROMPTS) * len(ANSWERS)


def test_without_echo_a_token_that_is_not_named_counts_with_an_upper_bound(
    server: FakeServer,
) -> None:
    server.most_logprobs, server.echo = 5, "ignored"
    model = connect(server)
    assert model.scoring == "next-token"
    found, exact = label_scores(model, PROMPTS, ANSWERS), local(server)
    assert model.meter.scored["upper bound"] > 0
    assert bool((found >= exact - 1e-4).all())
    known = (found - exact).abs() < 1e-4
    assert int(known.sum()) >= model.meter.scored["next-token"]


@pytest.mark.parametrize(
    ("able", "way"),
    [
        ({}, "next-token"),
        ({"tokenizes": False}, "echo"),
        ({"tokenizes": False, "echo": "ignored"}, "generated"),
        ({"tokenizes": False, "echo": "refused"}, "generated"),
        ({"most_logprobs": 0}, "choice"),
        ({"kind": "another", "echo": "refused"}, "generated"),  # names tokens by their text only
    ],
)
def test_the_most_exact_way_that_the_server_has_is_taken(
    server: FakeServer, able: dict[str, Any], way: str
) -> None:
    for name, value in able.items():
        setattr(server, name, value)
    assert connect(server).scoring == way


def test_a_tokenizer_that_is_not_the_models_is_found_out(
    server: FakeServer, tmp_path: Path
) -> None:
    other = tiny.tokenizer().backend_tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())
    other.post_processor = processors.Sequence([])  # adds no BOS
    PreTrainedTokenizerFast(tokenizer_object=other).save_pretrained(tmp_path / "other")
    tiny.tokenizer().save_pretrained(tmp_path / "same")
    assert connect(server, tokenizer=str(tmp_path / "same")).scoring == "next-token"
    assert connect(server, tokenizer=str(tmp_path / "other")).scoring == "echo"


def test_a_server_that_takes_echo_and_does_not_echo_is_seen_through(server: FakeServer) -> None:
    # llama.cpp's server; a harness that believes it scores every label alike
    server.kind, server.echo = "llamacpp", "ignored"
    with pytest.raises(IclError, match="cannot score by 'echo'; it can by 'next-token'"):
        connect(server, scoring="echo")


def test_generated_scores_are_right_for_answers_told_apart_by_their_first_tokens(
    server: FakeServer,
) -> None:
    model = connect(server, scoring="generated")
    answers = ["Q", "W", "?"]  # one token each, and nothing else begins with them
    prompts = PROMPTS[:1]
    found = label_scores(model, prompts, answers)
    exact = label_scores(server.backbone, prompts, answers)
    named = model.meter.scored["generated"]
    assert named + model.meter.scored["upper bound"] == 3 or model.meter.scored["no match"] == 3
    for have, want in zip(found[0].tolist(), exact[0].tolist(), strict=True):
        assert have >= want - 1e-4


def test_a_chat_without_log_probabilities_is_matched_to_the_labels(server: FakeServer) -> None:
    server.most_logprobs, server.says, server.kind = 0, "It is a **Weekday**.", "another"
    model = connect(server, api="chat")
    assert model.scoring == "choice"
    found = label_scores(model, ["Word: Montag\nKind:"], [" month", " weekday"])
    assert found.argmax().item() == 1
    assert model.meter.scored == {"free choice": 2}


def test_an_answer_that_is_no_label_makes_all_alike(server: FakeServer) -> None:
    server.most_logprobs, server.says = 0, "I cannot tell."
    model = connect(server, api="chat")
    found = label_scores(model, ["Word: x"], [" month", " weekday"])
    assert found[0, 0] == found[0, 1]
    assert model.meter.scored == {"no match": 2}


def test_the_choice_is_constrained_where_the_server_is_known_to_do_so(server: FakeServer) -> None:
    for kind, field, value in [
        ("vllm", "structured_outputs", {"choice": [" a", ' "b"']}),
        ("llamacpp", "grammar", 'root ::= " a" | " \\"b\\""'),
    ]:
        server.kind = kind
        label_scores(connect(server, scoring="choice"), ["x"], [" a", ' "b"'])
        assert server.log[-1][field] == value


def test_scores_do_not_depend_on_what_is_scored_together(server: FakeServer) -> None:
    model = connect(server, cache=False)
    whole = label_scores(model, PROMPTS, ANSWERS)
    alone = torch.cat([label_scores(model, [prompt], ANSWERS) for prompt in PROMPTS])
    assert torch.equal(whole, alone)


def test_a_chat_server_that_knows_another_name_for_the_limit_is_understood(
    server: FakeServer,
) -> None:
    server.refuses = lambda body: (
        "use max_completion_tokens instead" if "max_tokens" in body else None
    )
    model = connect(server, api="chat")
    assert model.write(["Word:"], max_new_tokens=3)[0][0]
    assert server.log[-1]["max_completion_tokens"] == 3


def test_generation_equals_the_local_greedy_text_and_stops(server: FakeServer) -> None:
    model = connect(server)
    [[text]] = model.write(["Word: January"], max_new_tokens=8)
    ids = server.tokenizer("Word: January")["input_ids"]
    assert text == server.tokenizer.decode(server._generate(ids, 8), skip_special_tokens=True)
    stop = text[2]
    assert model.write(["Word: January"], max_new_tokens=8, stop=[stop]) == [
        [text[: text.index(stop)]]
    ]


def test_a_model_that_is_not_served_is_refused(server: FakeServer) -> None:
    from icl.models.server.config import ServerConfig
    from icl.models.server.model import ServerModel

    with pytest.raises(IclError, match="does not serve 'huge' but tiny"):
        ServerModel("huge", ServerConfig(url=server.url))


def test_what_needs_weights_is_refused_in_a_sentence(server: FakeServer) -> None:
    model = connect(server)
    with pytest.raises(
        IclError, match="'tiny', a model on a server, is none that turns texts into"
    ):
        model.embed(["a text"])
    with pytest.raises(IclError, match="'tiny', a model on a server, is none that takes LoRA"):
        label_scores(model, ["Word:"], [" month"], adapter=Adapter({}, 1.0))

"""JSON of odd shapes, from servers and proxies of all sorts: no traceback, and no wrong number."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icl.errors import IclError
from icl.models.scoring.scorer import label_scores
from icl.models.server import wanted
from icl.models.server.answers import fault_of
from icl.models.server.client import Client
from icl.models.server.config import ServerConfig
from icl.models.server.generated import label_mass
from icl.models.server.info import server_info
from icl.models.server.ledger import Usage, actual_usage
from icl.models.server.next_token import _bound
from icl.models.server.replies import positions, text_of
from icl.models.server.secret import Secret
from icl.models.server.tokenizer import ServerTokenizer
from tests.models.server.fake import FakeServer, FastClock, Fault, connect

PROMPTS, ANSWERS = ["Word: January\nKind:", "organ"], [" month", " weekday"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 10**400, "", "token_id:7", "token_id:" + "9" * 5000])
    | st.floats()
    | st.text(st.characters(), max_size=3)  # halves of surrogate pairs included
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, or, seldom, anything else."""
    made = st.fixed_dictionaries({}, optional={k: v | LEAVES for k, v in fields.items()})
    return st.one_of(made, made, made, JSON)


LOG_PROBS = st.floats(max_value=0) | st.floats()
TOKEN: Any = some(
    token=st.text(max_size=2),
    logprob=LOG_PROBS,
    bytes=st.lists(st.integers(0, 255) | LEAVES, max_size=2),
    id=st.integers(0, 9),
    top_logprobs=st.lists(
        st.fixed_dictionaries({"token": st.text(max_size=2), "logprob": LOG_PROBS}), max_size=2
    ),
)
LEGACY = some(
    tokens=st.lists(st.text(max_size=2), max_size=2),
    token_logprobs=st.lists(LOG_PROBS | LEAVES, max_size=2),
    top_logprobs=st.lists(st.dictionaries(st.text(max_size=1), LOG_PROBS, max_size=2), max_size=2),
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text() | JSON,
        "message": some(content=st.text()),
        "logprobs": LEGACY | some(content=st.lists(TOKEN, max_size=2)),
    },
)
USAGE = some(
    prompt_tokens=st.integers(0, 9),
    completion_tokens=st.integers(0, 9),
    prompt_tokens_details=some(cached_tokens=st.integers(0, 9)),
)


@given(CHOICE)
def test_any_reply_is_usable_or_not_and_a_usable_one_gives_numbers(choice: dict[str, Any]) -> None:
    data = {"choices": [choice]}
    text_of(data).encode()
    found = positions(data)
    if wanted.TEXT.usable(data):
        assert "text" in choice or "content" in choice["message"]
    if wanted.FIRST.usable(data):
        assert found[0].token.log_prob < 1
    if wanted.ALTERNATIVES.usable(data):
        assert _bound(found[0]) < 1
    if wanted.ECHO.usable(data):
        assert not any(math.isnan(position.token.log_prob) for position in found[1:])
    if wanted.ANSWER.usable(data):
        assert found or not text_of(data)
        mass = label_mass(found, ["a", "b", "c"])
        assert not any(score is not None and math.isnan(score) for score in mass)


@given(USAGE | st.just(...))
def test_any_usage_is_counted_or_what_was_expected(usage: Any) -> None:
    expected = Usage(5, 0, 2)
    found = actual_usage({} if usage is ... else {"usage": usage}, expected)
    assert found == expected or found.prompt == usage["prompt_tokens"]
    for count in (found.prompt, found.cached, found.answer):
        assert type(count) is int
        assert 0 <= count <= 2**31
    assert found.cached <= found.prompt


def test_a_usage_is_taken_as_far_as_it_makes_sense() -> None:
    expected = Usage(5, 0, 2)
    for usage, found in [
        ({"prompt_tokens": 7, "completion_tokens": 3}, Usage(7, 0, 3)),
        ({"prompt_tokens": 7, "completion_tokens": -3}, Usage(7, 0, 2)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(7, 4, 2)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(7, 0, 2)),
        ({"prompt_tokens": True, "completion_tokens": 3}, expected),
        ({"prompt_tokens": 7.0}, expected),
    ]:
        assert actual_usage({"usage": usage}, expected) == found


ODD = [[], [1], "much", 7, -1, True, {"prompt_tokens": "many", "completion_tokens": [1]}] + [
    {"prompt_tokens": odd, "completion_tokens": odd, "prompt_tokens_details": odd}
    for odd in ([1], {}, "3", -4, True, 1.5, 10**30, 1000, None)
]


@pytest.mark.parametrize("usage", ODD, ids=str)
def test_an_odd_usage_changes_no_score_and_stops_no_run(server: FakeServer, usage: Any) -> None:
    want = {way: label_scores(connect(server, scoring=way, cache=False), PROMPTS, ANSWERS)
            for way in ("next-token", "echo", "generated", "choice")}  # fmt: skip
    server.usage = usage
    for way, scores in want.items():
        model = connect(server, scoring=way, cache=False, budget={"tokens": 10**6})
        assert torch.equal(label_scores(model, PROMPTS, ANSWERS), scores)
        assert model.client.ledger.tokens >= 0
        assert model.meter.prompt_tokens > 0


def test_what_is_impossible_is_no_more_than_that() -> None:
    top = [{"token": "a", "logprob": -math.inf}, {"token": "b", "logprob": -0.1}]
    given = {"content": [{"token": "b", "logprob": -0.1, "top_logprobs": top}]}
    data = {"choices": [{"text": "b", "logprobs": given}]}
    assert wanted.ANSWER.usable(data)
    assert label_mass(positions(data), ["a", "b"]) == [-math.inf, -0.1]


def test_half_a_surrogate_pair_is_no_text_that_cannot_be_written() -> None:
    assert text_of({"choices": [{"text": "a\ud800"}]}) == "a?"
    token = {"token": "a\ud800", "logprob": -1.0}
    assert len(positions({"choices": [{"logprobs": {"content": [token]}}]})) == 1


def test_an_end_without_alternatives_is_an_answer(server: FakeServer) -> None:
    model = connect(server, api="chat", scoring="generated")
    end = {"content": [{"token": "month", "logprob": -0.25, "top_logprobs": []}]}
    body = json.dumps({"choices": [{"message": {"content": ""}, "logprobs": end}]})
    server.faults = [Fault(200, body=body)]
    assert label_scores(model, ["x"], ANSWERS).tolist() == [[-0.25, -0.25]]


def test_a_number_for_bytes_takes_no_memory() -> None:
    token = {"token": "ab", "logprob": -1.0, "bytes": 10**15}
    [position] = positions({"choices": [{"logprobs": {"content": [token]}}]})
    assert position.token.raw == b"ab"


@pytest.mark.parametrize("told", [-1, 0, True, 1.5, "512", [512], 10**30, None, {}])
def test_an_odd_context_length_is_none(server: FakeServer, told: Any) -> None:
    server.meta = {"max_model_len": told, "meta": {"n_ctx": told}, "owned_by": told}
    assert server_info(client(server), "tiny").context is None
    server.meta = {"max_model_len": told, "meta": {"n_ctx": 64}}
    assert server_info(client(server), "tiny").context == 64
    assert connect(server).context_length == 64


@pytest.mark.parametrize("listed", [7, True, "tiny", {"a": 1}, [7], [{"id": 7}], [[]]])
def test_an_odd_list_of_models_says_nothing(server: FakeServer, listed: Any) -> None:
    asked = client(server)
    asked.get = lambda path: {"data": listed}  # type: ignore[method-assign]
    assert server_info(asked, "tiny").facts == {}


@pytest.mark.parametrize("tokens", [[-1], [10**30], [True], [1.5], ["a"], [], "ab", 7, {}])
def test_odd_token_ids_are_no_tokenizer(server: FakeServer, tokens: Any) -> None:
    server.tokens = tokens
    assert not ServerTokenizer(client(server), "tiny").works()
    assert connect(server).scoring == "echo"


def test_a_server_that_no_longer_encodes_is_told_of_in_one_sentence(server: FakeServer) -> None:
    model = connect(server)
    server.tokens = [-1]
    with pytest.raises(IclError, match="no longer encodes texts; see that it runs"):
        label_scores(model, PROMPTS, ANSWERS)


def test_a_date_that_no_calendar_has_is_no_pause() -> None:
    headers = {"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}
    assert fault_of(503, headers, "", Secret(None))[1].retry_after is None


def client(server: FakeServer) -> Client:
    return Client(ServerConfig(url=server.url), {"name": "tiny"}, FastClock())

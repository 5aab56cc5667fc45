"""A reply without what was asked for is asked for again: it is not scored, and not kept."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from icl.errors import IclError
from icl.models.scoring.scorer import label_scores
from icl.models.server.answers import UnusableError
from icl.models.server.client import Client
from icl.models.server.config import ServerConfig
from icl.models.server.model import ServerModel
from icl.models.server.wanted import ALTERNATIVES
from tests.models.server.fake import FakeServer, FastClock, Fault, connect

PROMPTS = ["Word: January\nKind:", "Word: Montag\nKind: ", "organ"]
ANSWERS = [" month", " weekday", "ic"]


def scored(*values: float | None) -> str:
    """A reply with these log-probabilities."""
    given = [{"token": "x", "logprob": value, "top_logprobs": [{"token": "x", "logprob": value}]}
             for value in values]  # fmt: skip
    return json.dumps({"choices": [{"text": "x", "logprobs": {"content": given}}]})


NULL = '{"choices": [{"text": "a", "message": {"content": "a"}, "logprobs": null}]}'
BARE = '{"choices": [{}]}'
BAD = {
    "null": NULL,
    "bare": BARE,
    "nan": scored(None, float("nan")),
    "above": scored(2.0, 2.0),
    "false": scored(False, False),
    "endless": scored(-0.5, 10**400),
    "short": '{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}',
}
WAYS: dict[str, dict[str, Any]] = {
    "next-token": {},
    "forced": {"bias": "raw", "echo": "refused", "most_logprobs": 20},
    "by echo": {"most_logprobs": 20},
    "echo": {},
    "generated": {},
    "choice": {},
}
FAULTY = [(way, bad) for way in WAYS for bad in (BAD if way != "choice" else ["bare"])]


def start(server: FakeServer, way: str, **config: Any) -> ServerModel:
    for name, value in WAYS[way].items():
        setattr(server, name, value)
    scoring = way if way in ("echo", "generated", "choice") else "next-token"
    return connect(server, scoring=scoring, **config)


def kept(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "cache" / "server" / "replies.sqlite") as cache:
        rows = cache.execute("SELECT reply FROM replies").fetchall()
    return [zlib.decompress(row[0]).decode() for row in rows]


def is_clean(folder: Path) -> bool:
    return bool(kept(folder)) and not {json.dumps(json.loads(bad)) for bad in BAD.values()} & {
        json.dumps(json.loads(row)) for row in kept(folder)
    }


def answered(server: FakeServer) -> int:
    """The requests that the server did not refuse: a refusal is not kept."""
    most, no_echo = server.most_logprobs, server.echo == "refused"
    return sum(
        body.get("logprobs", 0) <= most and not (body.get("echo") and no_echo)
        for body in server.log
    )


@pytest.mark.parametrize(("way", "bad"), FAULTY)
def test_bad_replies_change_no_score_and_are_not_kept(
    server: FakeServer, tmp_path: Path, way: str, bad: str
) -> None:
    want = label_scores(start(server, way, cache=False), PROMPTS, ANSWERS)
    model = start(server, way)
    server.faults = [None, Fault(200, body=BAD[bad]), Fault(200, body=BAD[bad])]
    assert torch.equal(label_scores(model, PROMPTS, ANSWERS), want)
    assert not server.faults
    assert is_clean(tmp_path)
    sent = answered(server)
    assert torch.equal(label_scores(start(server, way), PROMPTS, ANSWERS), want)
    assert answered(server) == sent  # the second one is served from the cache


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_reply_at_any_place_of_a_run_changes_no_score(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    want = label_scores(start(server, way, cache=False), PROMPTS[:1], ANSWERS)
    for place in range(100):
        monkeypatch.setenv("ICL_CACHE", str(tmp_path / f"{place}"))
        model = start(server, way, concurrency=1)
        server.faults = [*[None] * place, Fault(200, body=BARE)]
        assert torch.equal(label_scores(model, PROMPTS[:1], ANSWERS), want)
        if server.faults:  # beyond the run's end
            break
    assert 0 < place < 99


@pytest.mark.parametrize("way", [way for way in WAYS if way != "choice"])
def test_a_server_that_gives_no_log_probabilities_any_more_is_told_of_in_one_sentence(
    server: FakeServer, tmp_path: Path, way: str
) -> None:
    want = label_scores(start(server, way, cache=False), PROMPTS, ANSWERS)
    model = start(server, way, retries=2)
    server.faults = [Fault(200, body=NULL)] * 100
    with pytest.raises(UnusableError, match=r"3 attempts \(.* no log-probabilities") as caught:
        label_scores(model, PROMPTS, ANSWERS)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith("set `model.server.scoring` to another way.")
    assert is_clean(tmp_path)
    server.faults = []
    assert torch.equal(label_scores(model, PROMPTS, ANSWERS), want)


@pytest.mark.parametrize("way", WAYS)
def test_a_cache_with_bad_replies_of_an_older_version_heals(
    server: FakeServer, tmp_path: Path, way: str
) -> None:
    want = label_scores(start(server, way), PROMPTS, ANSWERS)
    rows, sent = len(kept(tmp_path)), answered(server)
    with sqlite3.connect(tmp_path / "cache" / "server" / "replies.sqlite") as cache:
        cache.execute("UPDATE replies SET reply = ?", (zlib.compress(BARE.encode()),))
    assert torch.equal(label_scores(start(server, way), PROMPTS, ANSWERS), want)
    assert is_clean(tmp_path)
    assert len(kept(tmp_path)) == rows
    assert answered(server) == sent + rows
    assert torch.equal(label_scores(start(server, way), PROMPTS, ANSWERS), want)
    assert answered(server) == sent + rows


@pytest.mark.parametrize("bad", ["null", "bare", "nan"])
def test_a_server_that_was_half_up_is_asked_again_at_the_next_start(
    server: FakeServer, tmp_path: Path, bad: str
) -> None:
    server.faults = [Fault(200, body=BAD[bad])] * 100
    assert connect(server).scoring == "choice"
    assert len(server.log) == 4  # a verdict is not retried: three numbers of alternatives, and echo
    assert not kept(tmp_path)
    server.faults = []
    assert connect(server).scoring == "next-token"
    sent = len(server.log)
    assert connect(server).scoring == "next-token"
    assert len(server.log) == sent  # the good verdicts are kept


def test_any_one_probe_that_is_answered_badly_spoils_no_later_start(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(20):
        monkeypatch.setenv("ICL_CACHE", str(tmp_path / f"{place}"))
        server.faults = [*[None] * place, Fault(200, body=NULL)]
        connect(server)
        if server.faults:
            break
        model = connect(server)
        assert (model.scoring, model._session.alternatives) == ("next-token", 20)
    assert place == 4


def test_a_bad_reply_does_not_decide_how_a_chat_calls_the_limit(server: FakeServer) -> None:
    server.refuses = lambda body: (
        "use max_completion_tokens instead" if "max_tokens" in body else None
    )
    server.faults = [Fault(200, body=BARE)]
    connect(server, api="chat")
    assert connect(server, api="chat").write(["Word:"], max_new_tokens=3)[0][0]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_generated_text_is_asked_for_until_there_is_one(
    server: FakeServer, tmp_path: Path, api: Any
) -> None:
    model = connect(server, api=api, retries=2)
    want = connect(server, api=api, cache=False).write(["Word:"], max_new_tokens=3)
    server.faults = [Fault(200, body=BARE), Fault(200, body='{"choices": [{"message": {}}]}')]
    assert model.write(["Word:"], max_new_tokens=3) == want
    assert is_clean(tmp_path)
    server.faults = [Fault(200, body=BARE)] * 3
    with pytest.raises(IclError, match=r"3 attempts \(the reply holds no text\); what was"):
        model.write(["another"], max_new_tokens=3)


@pytest.mark.parametrize("way", ["generated", "choice"])
def test_a_refusal_to_say_anything_is_an_answer(server: FakeServer, way: Any) -> None:
    model = connect(server, api="chat", scoring=way)
    before, silent = len(server.log), '{"choices": [{"message": {"content": null}}]}'
    server.faults = [Fault(200, body=silent)]
    for _ in range(2):
        found = label_scores(model, ["x"], ANSWERS)
        assert found[0].tolist() == [0.0, 0.0, 0.0]
    assert model.meter.scored == {"no match": 6}
    assert len(server.log) == before + 1


def test_bad_replies_are_paid_for_as_often_as_they_come(server: FakeServer) -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 2}
    told = json.dumps(json.loads(NULL) | {"usage": usage})
    server.faults = [Fault(200, body=told), Fault(500), Fault(200, body=NULL)]
    client = Client(ServerConfig(url=server.url), {"name": "tiny"}, FastClock())
    body = {"model": "tiny", "prompt": "Word:", "max_tokens": 1, "logprobs": 5}
    reply = client.post("/completions", body, ALTERNATIVES)
    guess = 1 + len("Word:") // 3 + 1  # of a reply that does not tell its tokens
    last = reply.usage.prompt + reply.usage.answer
    assert (client.ledger.requests, client.ledger.tokens) == (4, 42 + 0 + guess + last)


def test_an_echo_that_worked_is_not_doubted_again(server: FakeServer) -> None:
    model = start(server, "by echo", cache=False)
    [probe] = [body for body in server.log if body.get("echo")]
    label_scores(model, PROMPTS, ANSWERS)
    assert model.meter.scored["echo"] > 0
    assert server.log.count(probe) == 1


def test_a_forced_token_that_never_has_a_score_is_not_forced(server: FakeServer) -> None:
    server.bias, server.echo, server.most_logprobs = "raw", "refused", 20
    answer: Callable[..., Any] = server.answer

    def spoilt(path: str, body: dict[str, Any]) -> Any:
        return (200, json.loads(NULL)) if "logit_bias" in body else answer(path, body)

    server.answer = spoilt  # type: ignore[method-assign]
    model = connect(server, scoring="next-token")
    label_scores(model, PROMPTS, ANSWERS)
    assert model.meter.scored["upper bound"] > 0

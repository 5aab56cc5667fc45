"""Requests: many at once, sent again when that helps, within rates and budget, each paid once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from icl.errors import IclError
from icl.models.server.answers import RefusedError
from icl.models.server.client import Client
from icl.models.server.config import Budget, ServerConfig
from icl.models.server.kept_replies import request_key
from icl.models.server.ledger import Ledger, Usage
from icl.models.server.rates import Clock, Pacer, StoppedError
from tests.models.server.fake import FakeServer, FastClock, Fault

PATH = "/completions"


def client(server: FakeServer, clock: Clock | None = None, **config: Any) -> Client:
    made = ServerConfig(url=server.url, **config)
    return Client(made, {"name": "tiny"}, clock or FastClock())


def body(text: str = "Word:", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": text, "max_tokens": 1, **more}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(500),
        Fault(503, body="<html>busy</html>"),
        Fault(200, body="not JSON"),
        Fault(200, body="[]"),
        Fault(200, body='{"choices": []}'),
        Fault(200, body='{"error": "overloaded"}'),
        Fault(drop=True),
    ],
    ids=lambda f: f"{f.status}{'-drop' if f.drop else ''}-{f.body[:8]}",
)
def test_what_fails_for_a_passing_reason_is_sent_again(server: FakeServer, fault: Fault) -> None:
    server.faults = [fault, fault]
    assert client(server).post(PATH, body()).data["choices"]
    assert len(server.log) == 3


def test_a_slow_server_is_given_up_and_asked_again(server: FakeServer) -> None:
    server.delay = 0.5
    slow = client(server, timeout=0.1, retries=1)
    with pytest.raises(IclError, match=r"no answer in 2 attempts .*; see that it runs"):
        slow.post(PATH, body())
    assert len(server.log) == 2


def test_waits_grow_and_are_the_same_in_every_run(server: FakeServer) -> None:
    found = []
    for _ in range(2):
        clock = FastClock()
        server.faults = [Fault(500)] * 7
        with pytest.raises(IclError, match="no answer in 7 attempts"):
            client(server, clock, retries=6).post(PATH, body())
        found.append(clock.waits)
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert all(0 <= wait <= min(60, 0.5 * 2**n) for n, wait in enumerate(found[0]))
    clock = FastClock()
    server.faults = [Fault(500)] * 7
    with pytest.raises(IclError):
        client(server, clock, retries=6).post(PATH, body("another"))
    assert clock.waits != found[0]  # many clients must not come back at the same moment


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 8),
        ({"retry-after-ms": "2500"}, 2.5, 3.5),
        ({"Retry-After": "soon"}, 0, 1),
    ],
)
def test_the_pause_that_a_server_asks_for_is_kept(
    server: FakeServer, headers: dict[str, str], least: float, most: float
) -> None:
    server.faults = [Fault(429, headers)]
    clock = FastClock()
    client(server, clock).post(PATH, body())
    assert least <= clock.now() <= most


def test_a_pause_may_be_given_as_a_date(server: FakeServer) -> None:
    until = datetime.now(timezone.utc) + timedelta(seconds=90)
    server.faults = [Fault(429, {"Retry-After": format_datetime(until)})]
    clock = FastClock()
    client(server, clock).post(PATH, body())
    assert 30 <= clock.now() <= 92


def test_a_pause_holds_for_all_threads() -> None:
    clock = FastClock()
    pacer = Pacer(None, None, clock)
    pacer.pause(5.0)
    pacer.enter(1)
    assert clock.now() == 5.0


def test_a_pause_of_hours_is_told_instead_of_waited(server: FakeServer) -> None:
    server.faults = [Fault(429, {"Retry-After": "7200"})]
    with pytest.raises(IclError, match="asks to wait 7200 seconds"):
        client(server).post(PATH, body())


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_is_told_at_once_in_the_servers_words(server: FakeServer, status: int) -> None:
    server.faults = [Fault(status, body='{"error": {"message": "context\\nlength exceeded"}}')]
    with pytest.raises(RefusedError, match=f"{status} context length exceeded"):
        client(server).post(PATH, body())
    assert len(server.log) == 1


def test_a_spent_quota_does_not_pass(server: FakeServer) -> None:
    told = '{"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}'
    server.faults = [Fault(429, body=told)]
    with pytest.raises(RefusedError, match="exceeded your quota"):
        client(server).post(PATH, body())


def test_nobody_there_is_one_sentence() -> None:
    config = ServerConfig(url="http://127.0.0.1:9/v1", retries=1, cache=False)
    with pytest.raises(IclError, match=r"http://127.0.0.1:9/v1 gave no answer in 2 attempts"):
        Client(config, {}, FastClock()).get("/models")


def test_no_more_requests_are_under_way_than_allowed(server: FakeServer) -> None:
    server.delay = 0.03
    client(server, concurrency=3).post_all(PATH, [body(f"Word {n}") for n in range(12)])
    assert server.most_under_way == 3


def test_replies_keep_the_order_and_equal_requests_are_sent_once(server: FakeServer) -> None:
    texts = ["a", "b", "a", "c", "b"]
    replies = client(server, cache=False).post_all(PATH, [body(t, echo=True) for t in texts])
    assert len(server.log) == 3
    assert [reply.data["choices"][0]["text"][0] for reply in replies] == texts


def test_requests_a_minute_are_not_exceeded() -> None:
    sent = rated(lambda clock: Pacer(60.0, None, clock), tokens=1, count=300)
    assert most_within(sent, 60.0) <= 60 * 1.1 + 1
    assert sent[-1] == pytest.approx(300 - 6, abs=2)  # and not much slower either


def test_tokens_a_minute_are_not_exceeded() -> None:
    sent = rated(lambda clock: Pacer(None, 6000.0, clock), tokens=100, count=300)
    assert most_within(sent, 60.0) * 100 <= 6000 * 1.1 + 100


def test_a_request_larger_than_the_rate_goes_through_and_is_waited_off() -> None:
    sent = rated(lambda clock: Pacer(None, 60.0, clock), tokens=600, count=3)
    assert sent[1] - sent[0] == pytest.approx(600.0, rel=0.05)


def rated(make: Callable[[Clock], Pacer], tokens: int, count: int) -> list[float]:
    clock = FastClock()
    pacer, sent = make(clock), []
    for _ in range(count):
        pacer.enter(tokens)
        sent.append(clock.now())
    return sent


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(t <= other < t + seconds for other in times) for t in times)


@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        (Budget(requests=5), "requests"),
        (Budget(tokens=40), "tokens"),
        (Budget(cost=0.00004, input_price=1.0, output_price=2.0), "cost"),
    ],
)
def test_a_spent_budget_stops_in_a_sentence_and_loses_nothing(
    server: FakeServer, budget: Budget, unit: str
) -> None:
    bodies = [body(f"Word {n}") for n in range(12)]
    poor = client(server, budget=budget, concurrency=2)
    with pytest.raises(IclError, match=f"raise `model.server.budget.{unit}` and run again"):
        poor.post_all(PATH, bodies)
    answered = len(server.log)
    assert 0 < answered < 12
    assert poor.ledger.requests == answered
    client(server).post_all(PATH, bodies)
    assert len(server.log) == 12  # only what was missing was sent, and nothing twice


def test_a_failure_keeps_what_was_under_way_and_drops_the_rest(server: FakeServer) -> None:
    server.delay = 0.05
    server.refuses = lambda asked: "no" if asked["prompt"] == "Word 2" else None
    bodies = [body(f"Word {n}") for n in range(40)]
    with pytest.raises(RefusedError):
        client(server, concurrency=4).post_all(PATH, bodies)
    first = len(server.log)
    assert first < 12
    server.refuses = lambda asked: None
    client(server).post_all(PATH, bodies)
    assert len(server.log) == 41  # the refused one alone was sent twice


def test_a_failure_does_not_wait_for_those_who_wait() -> None:
    clock = Clock()
    stopped = []

    def wait() -> None:
        try:
            clock.wait(60.0)
        except StoppedError:
            stopped.append(True)

    waiting = threading.Thread(target=wait)
    begin = time.monotonic()
    waiting.start()
    clock.stop()
    waiting.join()
    assert time.monotonic() - begin < 5
    assert stopped


def test_usage_is_taken_from_the_server_and_failures_cost_no_tokens(server: FakeServer) -> None:
    server.faults = [Fault(500)]
    asking = client(server)
    reply = asking.post(PATH, body("Word: January"))
    tokens = len(server.tokenizer("Word: January")["input_ids"])
    assert reply.usage == Usage(tokens, 0, 1)
    assert (asking.ledger.requests, asking.ledger.tokens) == (2, tokens + 1)


def test_many_threads_do_not_overspend_together() -> None:
    ledger, refused = Ledger(Budget(tokens=100)), []

    def spend() -> None:
        for _ in range(50):
            try:
                ledger.reserve(Usage(1, 0, 1))
            except IclError:
                refused.append(1)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ledger.tokens, len(refused)) == (100, 350)


def test_a_reply_is_kept_under_all_that_decides_it() -> None:
    url, model, asked = "http://h/v1/completions", {"name": "m", "revision": None}, body(seed=1)
    key = request_key(url, model, asked)
    others = [
        request_key("http://other/v1/completions", model, asked),
        request_key(url, model | {"name": "n"}, asked),
        request_key(url, model | {"revision": "2"}, asked),
        request_key(url, model | {"size": 7}, asked),
        request_key(url, model, asked | {"prompt": "Word"}),
        request_key(url, model, asked | {"temperature": 0.5}),
        request_key(url, model, asked | {"seed": 2}),
    ]
    assert len({key, *others}) == 8
    assert request_key(url, dict(reversed(model.items())), asked) == key


def test_another_model_under_the_same_name_gets_its_own_replies(server: FakeServer) -> None:
    client(server).post(PATH, body())
    Client(ServerConfig(url=server.url), {"name": "tiny", "size": 2}, FastClock()).post(
        PATH, body()
    )
    assert len(server.log) == 2
    client(server).post(PATH, body())
    assert len(server.log) == 2

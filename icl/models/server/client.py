"""`Client`: requests to a server, many at once, sent again when that helps, each paid for once."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from icl.errors import IclError
from icl.models.server.answers import Fault, RefusedError, UnusableError, fault_of, is_reply
from icl.models.server.config import ServerConfig
from icl.models.server.kept_replies import ReplyCache, request_key
from icl.models.server.ledger import Ledger, Usage, actual_usage, expected_usage
from icl.models.server.rates import Clock, Pacer, StoppedError
from icl.models.server.secret import Secret
from icl.models.server.wanted import TEXT, Wanted
from icl.tools.cache import cache_dir

if TYPE_CHECKING:
    import httpx2

Body = Mapping[str, Any]
_A = TypeVar("_A")
_B = TypeVar("_B")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds of back-off
_LONGEST_PAUSE = 600.0  # a server that asks for a longer pause is told of instead
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer.

    Attributes:
        data: the JSON object.
        usage: tokens as the server counted them, else as estimated.
        from_cache: it was kept from before, and cost nothing now.
    """

    data: Any
    usage: Usage
    from_cache: bool


class Client:
    """A connection to one server, safe to use from many threads.

    Args:
        config: address, rates, budget.
        model: what the cache knows the model by; see `request_key`.
        clock: tells the time and waits.
    """

    def __init__(
        self, config: ServerConfig, model: Mapping[str, Any], clock: Clock | None = None
    ) -> None:
        self.config = config
        self.model = dict(model)
        self.ledger = Ledger(config.budget)
        self._clock = clock or Clock()
        self._pacer = Pacer(config.requests_per_minute, config.tokens_per_minute, self._clock)
        self._secret = Secret(config.key_env)
        self._cache = (
            ReplyCache(cache_dir() / "server" / "replies.sqlite") if config.cache else None
        )
        self._http = _connect(config)

    def get(self, path: str) -> Any:
        """Return the JSON value at a path under the base address; see `_ask`."""
        return self._ask("GET", self.config.url + path, None)

    def tool(self, path: str, body: Body) -> Any:
        """Post to a path beside the API (above ``/v1``), free of charge; see `_ask`."""
        return self._ask("POST", self.config.url.removesuffix("/v1") + path, body)

    def post(self, path: str, body: Body, wanted: Wanted = TEXT, *, patient: bool = True) -> Reply:
        """Send a request for generation, or take the reply that is already kept.

        Args:
            path: under the base address.
            body: the request.
            wanted: what the reply must hold; without it none is kept, nor taken from those kept.
            patient: whether to ask again for a reply that lacks it, or else to return that.

        Raises:
            RefusedError: the server will not answer this request, however often it is sent.
            UnusableError: no reply, however often it was asked for, holds what is wanted.
            IclError: the budget is spent, or the server cannot be reached.
        """
        url = self.config.url + path
        key = request_key(url, self.model, body)
        cache, data = self._cache, None
        if cache is not None:
            data = cache.get(key, lambda kept: is_reply(kept) and wanted.usable(kept))
        from_cache = data is not None
        if not from_cache:
            data = self._sent(url, body, key, wanted, patient)
            if cache is not None and (patient or wanted.usable(data)):
                cache.put(key, data)
        return Reply(data, actual_usage(data, expected_usage(body)), from_cache)

    def post_all(self, path: str, bodies: Sequence[Body], wanted: Wanted = TEXT) -> list[Reply]:
        """Send many requests, `concurrency` at a time; equal ones once. Replies keep the order.

        When one fails for good, those that have not begun are dropped, those under way are
        finished and kept in the cache, and then the failure is raised.
        """
        keys = [json.dumps(body, sort_keys=True) for body in bodies]
        distinct = dict(zip(keys, bodies, strict=True))
        replies = self.each(lambda body: self.post(path, body, wanted), list(distinct.values()))
        found = dict(zip(distinct, replies, strict=True))
        return [found[key] for key in keys]

    def each(self, send: Callable[[_A], _B], items: Sequence[_A]) -> list[_B]:
        """Call `send` on every item, `concurrency` at a time; fails as `post_all` says."""
        if not items:
            return []
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            futures = [pool.submit(send, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:  # also on Ctrl-C
                dropped = [future.cancel() or not future.done() for future in futures]
                if any(dropped):
                    self._clock.stop()
        self._clock.resume()
        for future in futures:
            error = None if future.cancelled() else future.exception()
            if error is not None and not isinstance(error, StoppedError):
                raise error
        return [future.result() for future in futures]

    def _sent(self, url: str, body: Body, key: str, wanted: Wanted, patient: bool) -> Any:
        """Send a request as often as it takes; paced, and within the budget."""
        expected, fault = expected_usage(body), Fault("nothing was sent")
        for attempt in range(self.config.retries + 1):
            self.ledger.reserve(expected)
            actual = None
            try:
                self._pacer.enter(expected.prompt + expected.answer)
                data, fault = self._once("POST", url, body)
                if data is not None and not is_reply(data):
                    data, fault = None, Fault("the reply holds no answer")
                # A reply that lacks what is wanted is paid for all the same.
                actual = None if data is None else actual_usage(data, expected)
            finally:
                self.ledger.settle(expected, actual)
            if actual is not None:
                self._pacer.correct(
                    actual.prompt + actual.answer - expected.prompt - expected.answer
                )
                if not patient or wanted.usable(data):
                    return data
                fault = Fault(wanted.missing)
            self._wait(fault, attempt, key)
        if actual is None:
            raise self._gave_up(fault)
        raise UnusableError(
            f"The server {self.config.url} gave nothing usable in {self.config.retries + 1}"
            f" attempts ({wanted.missing}); what was answered before is kept: run again to go on"
            f" from here, or {wanted.mend}."
        )

    def _ask(self, method: str, url: str, body: Body | None) -> Any:
        """Return a request's JSON value, or None where the server has nothing there.

        Raises:
            IclError: the server cannot be reached, or refuses the key.
        """
        fault = Fault("nothing was sent")
        for attempt in range(self.config.retries + 1):
            data, fault = self._once(method, url, body)
            if data is not None:
                return data
            if fault.status in (400, 404, 405, 422, 501):
                return None
            self._wait(fault, attempt, url)
        raise self._gave_up(fault)

    def _once(self, method: str, url: str, body: Body | None) -> tuple[Any, Fault]:
        """Send a request once; return the JSON value, or None and what went wrong."""
        import httpx2

        try:
            response = self._http.request(method, url, json=body, headers=self._secret.headers())
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = self._secret.redact(str(error)) or type(error).__name__
            return None, Fault(reason)
        return fault_of(response.status_code, response.headers, response.text, self._secret)

    def _wait(self, fault: Fault, attempt: int, key: str) -> None:
        """Wait before the next attempt; raises where there is none, or where it cannot help."""
        if not fault.passing:
            raise self._refusal(fault)
        if attempt == self.config.retries:
            return
        asked = fault.retry_after or 0.0
        if asked > _LONGEST_PAUSE:
            raise IclError(
                f"The server {self.config.url} asks to wait {asked:.0f} seconds ({fault.reason});"
                " run again then to go on from here."
            )
        if asked:  # it holds for all threads
            self._pacer.pause(asked)
        # Full jitter (Brooker 2015), from a lot that is the same in every run.
        lot = random.Random(hashlib.sha256(f"{key}/{attempt}".encode()).hexdigest())
        most = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
        self._clock.wait(asked + lot.uniform(0.0, most))

    def _refusal(self, fault: Fault) -> IclError:
        if fault.status in (401, 403):
            held = f"the key in {self._secret.variable!r}" if self._secret.variable else "no key"
            return IclError(
                f"The server {self.config.url} refuses {held} ({fault.reason}); name the"
                " environment variable with a valid key in `model.server.key_env`."
            )
        return RefusedError(
            f"The server {self.config.url} refuses the request ({fault.reason}).", fault.reason
        )

    def _gave_up(self, fault: Fault) -> IclError:
        return IclError(
            f"The server {self.config.url} gave no answer in {self.config.retries + 1} attempts"
            f" ({fault.reason}); see that it runs at this address, then run again to go on from"
            " here."
        )


def _connect(config: ServerConfig) -> httpx2.Client:
    try:
        import httpx2
    except ImportError as error:
        raise IclError(
            "A model on a server needs the package 'httpx2', which is not installed; run: pip"
            " install 'icl[server]'."
        ) from error
    return httpx2.Client(
        timeout=config.timeout,
        follow_redirects=False,  # the key goes to the address that the user gave, and no other
        trust_env=urlsplit(config.url).hostname not in _LOOPBACK,  # no proxy to this machine
        limits=httpx2.Limits(max_connections=config.concurrency),
    )

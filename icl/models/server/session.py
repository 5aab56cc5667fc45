"""`Session`: requests in the dialect of one server and API, counted on a meter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from icl.models.meter import Meter, Spent
from icl.models.server.answers import RefusedError
from icl.models.server.client import Body, Client, Reply
from icl.models.server.wanted import ALTERNATIVES, TEXT, Wanted

_ALTERNATIVES = (20, 5, 1)  # what hosted servers give: chat, completions, llama.cpp's elders


class Session:
    """Makes and sends requests to one model on one server.

    Attributes:
        name: the model, as the server calls it.
        program: the server's program where it is known: ``llamacpp``, ``vllm`` or empty.
        chat: whether messages are answered (else text is continued).
        alternatives: how many likeliest tokens the server names at each place; 0 for none.
    """

    def __init__(self, client: Client, name: str, program: str, meter: Meter) -> None:
        self._client = client
        self._meter = meter
        self.name = name
        self.program = program
        self.chat = client.config.api == "chat"
        self._path = "/chat/completions" if self.chat else "/completions"
        self._limit = "max_tokens"
        self.alternatives = 0

    def settle(self) -> None:
        """Find out how many alternatives the server names, and how it calls the token limit."""
        if self.chat and not self._knows_limit():
            # newer hosted models know the limit by this name only
            self._limit = "max_completion_tokens"
        for count in _ALTERNATIVES:
            reply = self.probe(self.body("One, two,", max_tokens=1, logprobs=count), ALTERNATIVES)
            if reply is not None and ALTERNATIVES.usable(reply):
                self.alternatives = count
                return

    def body(
        self,
        prompt: str | list[int],
        *,
        max_tokens: int,
        logprobs: int = 0,
        echo: bool = False,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        extra: Body | None = None,
    ) -> Mapping[str, Any]:
        """Return a request; a prompt of token ids is for the completions API only."""
        asked: dict[str, Any] = {"prompt": prompt}
        wished: dict[str, Any] = {"logprobs": logprobs}
        if self.chat:
            asked = {"messages": [{"role": "user", "content": prompt}]}
            wished = {"logprobs": True, "top_logprobs": logprobs}
        if self.program == "vllm":
            wished["return_tokens_as_token_ids"] = not self.chat
        return {
            "model": self.name,
            self._limit: max_tokens,
            "temperature": temperature,
            **asked,
            **(wished if logprobs else {}),
            **({"echo": True} if echo else {}),
            **({} if seed is None else {"seed": seed}),
            **({"stop": list(stop)} if stop else {}),
            **(extra or {}),
        }

    def ask_all(self, bodies: Sequence[Body], wanted: Wanted = TEXT) -> list[Any]:
        """Send requests and return their replies' JSON values, in the same order.

        Each holds what is wanted; fails as `Client.post_all` says where one does not.
        """
        replies = self._client.post_all(self._path, bodies, wanted)
        self._count(bodies, replies)
        return [reply.data for reply in replies]

    def probe(self, body: Body, wanted: Wanted) -> Any:
        """Send one request; return None where the server refuses it.

        A reply without what is wanted is a verdict too. It is not kept: a server that was half up
        is asked again at the next start.
        """
        try:
            reply = self._client.post(self._path, body, wanted, patient=False)
        except RefusedError:
            return None
        self._count([body], [reply])
        return reply.data

    def _knows_limit(self) -> bool:
        try:
            self._client.post(self._path, self.body("Say yes.", max_tokens=1), patient=False)
        except RefusedError as refused:
            return "max_completion_tokens" not in refused.reason
        return True

    def _count(self, bodies: Sequence[Body], replies: Sequence[Reply]) -> None:
        """Count what replies took; equal requests are sent once, and kept ones are charged."""
        self._meter.prompt_tokens += sum(reply.usage.prompt for reply in replies)
        keys = [json.dumps([self._path, body], sort_keys=True).encode() for body in bodies]
        for key, reply in dict(zip(keys, replies, strict=True)).items():
            digest, usage = hashlib.sha256(key).digest(), reply.usage
            spent = Spent(usage.prompt - usage.cached + usage.answer)
            if reply.from_cache:
                self._meter.charge(digest, spent)
            else:
                self._meter.computed_tokens += spent.tokens
                self._meter.computed([digest])

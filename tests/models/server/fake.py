"""A server in this process: a tiny model behind HTTP, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from icl.models.server.config import ServerConfig
from icl.models.server.model import ServerModel
from icl.models.server.rates import Clock
from tests import tiny

NAME = "tiny"


@dataclass
class Fault:
    """What happens to a request instead of an answer."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "out of order"}}'
    drop: bool = False


@dataclass
class FakeServer:
    """Serves tiny Llama; what it can do is set before a test and may change within it.

    `faults` are used up one a request for generation, None for a good answer; `log` keeps those
    requests.
    """

    kind: str = "vllm"
    echo: str = "given"  # or "ignored", as llama.cpp does, or "refused"
    bias: str = "ignored"  # or "raw": reports probabilities before it; or "reported": after it
    tokenizes: bool = True
    lists_models: bool = True
    most_logprobs: int = 400  # 0: none are given
    clips: bool = False  # gives fewer than asked for instead of refusing
    key: str = ""
    delay: float = 0.0
    says: str | None = None  # what a chat answers, whatever is asked
    refuses: Callable[[dict[str, Any]], str | None] = lambda body: None
    faults: list[Fault | None] = field(default_factory=list)
    usage: Any = None  # what is reported instead of the true one
    meta: dict[str, Any] = field(default_factory=dict)  # what is said of the model besides
    tokens: Any = None  # what texts are encoded to instead of their ids
    log: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        self.backbone = tiny.backbone("llama")
        self.tokenizer = self.backbone.tokenizer

    @torch.no_grad()
    def log_probs(self, ids: list[int]) -> torch.Tensor:
        """Next-token log-probabilities at every place, (tokens, vocabulary)."""
        with self._lock:  # one plain forward at a time
            return _plain().model(torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            meta = {"owned_by": self.kind, "id": NAME, "root": "tiny/llama", "max_model_len": 512}
            meta |= self.meta
            return (200, {"data": [meta]}) if self.lists_models else (404, {"error": "not found"})
        if path == "/tokenize":
            if not self.tokenizes:
                return 404, {"error": "not found"}
            ids = self.tokenizer(body["prompt"])["input_ids"]
            return 200, {"tokens": ids if self.tokens is None else self.tokens}
        refusal = self.refuses(body)
        if refusal is not None:
            return 400, {"error": {"message": refusal}}
        if path == "/v1/chat/completions":
            return self._chat(body)
        return self._complete(body)

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt)["input_ids"]
        count = body.get("logprobs", 0)
        if count > self.most_logprobs and not self.clips:
            return 400, {"error": {"message": f"at most {self.most_logprobs} logprobs"}}
        if body.get("echo") and self.echo == "refused":
            return 400, {"error": {"message": "no echo here"}}
        made = self._generate(ids, body["max_tokens"])
        forced = [] if self.bias == "ignored" else [int(k) for k in body.get("logit_bias", {})]
        made = forced[:1] or made
        echoed = ids if body.get("echo") and self.echo == "given" else []
        rows = self.log_probs([*ids, *made])
        places = [*range(len(echoed)), *range(len(ids), len(ids) + len(made))]
        choice: dict[str, Any] = {
            "index": 0,
            "text": self.tokenizer.decode([*echoed, *made], skip_special_tokens=True),
        }
        if count and self.most_logprobs:
            given = [self._place(rows, [*ids, *made], at, min(count, self.most_logprobs))
                     for at in places]  # fmt: skip
            if forced and self.bias == "reported":
                given[-1]["logprob"] = -1e-9
            choice["logprobs"] = self._format(given, body)
        return 200, {"choices": [choice], "usage": self._usage(ids, made)}

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids = self.tokenizer(body["messages"][0]["content"])["input_ids"]
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        count = body.get("top_logprobs", 0)
        if count > self.most_logprobs:
            return 400, {"error": {"message": "too many"}}
        made = self._generate(ids, limit)
        text = self.tokenizer.decode(made) if self.says is None else self.says
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        if count:
            rows = self.log_probs([*ids, *made])
            given = [self._place(rows, [*ids, *made], len(ids) + k, count)
                     for k in range(len(made))]  # fmt: skip
            choice["logprobs"] = {"content": given}
        return 200, {"choices": [choice], "usage": self._usage(ids, made)}

    def _usage(self, ids: list[int], made: list[int]) -> Any:
        told = {"prompt_tokens": len(ids), "completion_tokens": len(made)}
        return told if self.usage is None else self.usage

    def _generate(self, ids: list[int], count: int) -> list[int]:
        made: list[int] = []
        for _ in range(count):
            made.append(int(self.log_probs([*ids, *made])[-1].argmax()))
        return made

    def _place(self, rows: torch.Tensor, ids: list[int], at: int, count: int) -> dict[str, Any]:
        if at == 0:
            return self._named(ids[0], None) | {"top_logprobs": []}
        values, best = rows[at - 1].topk(count)
        top = [self._named(i, v) for i, v in zip(best.tolist(), values.tolist(), strict=True)]
        own = self._named(ids[at], float(rows[at - 1, ids[at]]))
        return own | {"top_logprobs": top}

    def _named(self, token: int, value: float | None) -> dict[str, Any]:
        raw = _raw(token)
        text = raw.decode(errors="replace")
        return {"id": token, "token": text, "logprob": value, "bytes": list(raw)}

    def _format(self, given: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        if self.kind == "llamacpp":
            return {"content": given}
        as_ids = body.get("return_tokens_as_token_ids", False)

        def name(token: dict[str, Any]) -> str:
            return f"token_id:{token['id']}" if as_ids else str(token["token"])

        return {
            "tokens": [name(token) for token in given],
            "token_logprobs": [token["logprob"] for token in given],
            "top_logprobs": [
                {name(t): t["logprob"] for t in token["top_logprobs"]} or None for token in given
            ],
        }


class _Plain:
    model: Any = None


def _plain() -> type[_Plain]:
    if _Plain.model is None:
        _Plain.model = tiny.model("llama").eval()
    return _Plain


@cache
def _raw(token: int) -> bytes:
    """The bytes of a token of a byte-level vocabulary."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokenizer = tiny.tokenizer()
    back = {character: byte for byte, character in bytes_to_unicode().items()}
    text = tokenizer.convert_ids_to_tokens(token)
    return b"" if text in tokenizer.all_special_tokens else bytes(back[c] for c in text)


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """Run a server on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are written apart

        def do_GET(self) -> None:
            self._reply(*server.answer(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if server.key and self.headers.get("authorization") != f"Bearer {server.key}":
                told = self.headers.get("authorization", "no key")
                return self._reply(401, {"error": {"message": f"Incorrect key: {told}"}})
            if "completions" not in self.path:
                return self._reply(*server.answer(self.path, body))
            with server._lock:
                server.log.append(body)
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
                fault = server.faults.pop(0) if server.faults else None
            try:
                time.sleep(server.delay)
                if fault is None:
                    return self._reply(*server.answer(self.path, body))
                if fault.drop:
                    self.close_connection = True
                    return self.connection.close()
                return self._send(fault.status, fault.body.encode(), fault.headers)
            finally:
                with server._lock:
                    server.under_way -= 1

        def _reply(self, status: int, data: Any) -> None:
            self._send(status, json.dumps(data).encode(), {})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class FastClock(Clock):
    """Time that only waiting moves, and that moves at once; keeps what was waited."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.waits: list[float] = []
        self._own = threading.Lock()

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        with self._own:
            self.waits.append(seconds)
            self.time += max(0.0, seconds)
        super().wait(0.0)


def connect(server: FakeServer, clock: Clock | None = None, **config: Any) -> ServerModel:
    """A model on the server."""
    return ServerModel(NAME, ServerConfig(url=server.url, **config), clock=clock or FastClock())

"""What an experiment says about a server: `ServerConfig`. It names a key, and never holds one."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Api = Literal["completions", "chat"]
Scoring = Literal["auto", "next-token", "echo", "generated", "choice"]

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


class _Strict(BaseModel):
    # A wrong value may be a key that was pasted into the wrong place: errors must not repeat it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Budget(_Strict):
    """What one start of a run may spend; where a limit is None there is none.

    Attributes:
        requests: sent to the server, repeated ones included.
        tokens: prompts and answers together.
        cost: in the currency of the prices.
        input_price, output_price: of a million tokens of prompt and of answer.
    """

    requests: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    cost: float | None = Field(default=None, gt=0)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _a_cost_needs_prices(self) -> Budget:
        if self.cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("a budget of `cost` needs `input_price` and `output_price`")
        return self


class ServerConfig(_Strict):
    """How to reach a model on a server, and how hard to press it.

    Attributes:
        url: the API's base, e.g. ``http://localhost:8000/v1``.
        api: ``completions`` (text continues) or ``chat`` (messages are answered).
        key_env: the environment variable that holds the key; None for servers that want none.
        scoring: how label scores are got, see `icl.models.server.model`; ``auto`` takes the most
            exact way that the server has.
        tokenizer: a Hub id or directory with the model's tokenizer; by default the server is asked.
        context: the context length in tokens; by default the server is asked.
        concurrency: requests under way at once.
        timeout: seconds to wait for a reply.
        retries: how often a request that failed for a passing reason is sent again.
        requests_per_minute, tokens_per_minute: rates not to exceed.
        budget: what one start may spend.
        cache: keep replies on disk, so that none is paid for twice.
    """

    url: str
    api: Api = "completions"
    key_env: str | None = None
    scoring: Scoring = "auto"
    tokenizer: str | None = None
    context: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=4, ge=1, le=256)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    budget: Budget = Budget()
    cache: bool = True

    @field_validator("url")
    @classmethod
    def _url_is_plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("give an address such as http://localhost:8000/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "an address holds no password, key or query; put a key into an environment"
                " variable and its name into `key_env`"
            )
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _key_is_only_named(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            raise ValueError(
                "give the name of an environment variable, such as OPENAI_API_KEY, and never the"
                " key itself"
            )
        return name

    @model_validator(mode="after")
    def _scoring_suits_the_api(self) -> ServerConfig:
        if self.api == "chat" and self.scoring in ("echo", "next-token"):
            raise ValueError(
                f"a chat server has no {self.scoring!r} scoring; take 'generated' or 'choice',"
                " or `api: completions`"
            )
        return self

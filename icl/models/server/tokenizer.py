"""A server's own tokenizer, in the shape that transformers' tokenizers have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl.errors import IclError
from icl.models.server.client import Client
from icl.models.tokens import ByteTokenizer

_MOST_IDS = 2**31  # no vocabulary is larger


class ServerTokenizer(ByteTokenizer):
    """Encodes by asking the server (``/tokenize``, as vLLM and llama.cpp have it).

    It does what `icl.models.tokens` asks of a tokenizer, and no more; neither server puts anything
    behind a prompt.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._known: dict[str, list[int]] = {}

    @property
    def bos_token_id(self) -> int | None:  # type: ignore[override]
        """The token that the server puts at the start of every prompt."""
        alone = self._encode([""])[0]
        return alone[0] if alone else None

    def works(self) -> bool:
        """Say whether the server encodes texts."""
        return bool(self._ask("text"))

    def __call__(self, texts: str | Sequence[str], *, add_special_tokens: bool) -> dict[str, Any]:
        """Return ``input_ids``: one list of ids, or one for each text."""
        if not add_special_tokens:
            raise ValueError("texts are encoded as the server encodes prompts")
        if isinstance(texts, str):
            return {"input_ids": self._encode([texts])[0]}
        return {"input_ids": self._encode(texts)}

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        new = sorted(set(texts) - self._known.keys())
        for text, ids in zip(new, self._client.each(self._ask, new), strict=True):
            if ids is None:
                raise IclError(
                    f"The server {self._client.config.url} no longer encodes texts; see that it"
                    " runs and run again to go on from here, or name the model's tokenizer in"
                    " `model.server.tokenizer`."
                )
            self._known[text] = ids
        return [self._known[text] for text in texts]

    def _ask(self, text: str) -> list[int] | None:
        # vLLM reads `prompt`, llama.cpp `content`; each leaves alone what it does not know.
        body: dict[str, Any] = {"model": self._name, "prompt": text, "content": text}
        body |= {"add_special_tokens": True, "add_special": True}
        reply = self._client.tool("/tokenize", body)
        ids = reply.get("tokens") if isinstance(reply, dict) else None
        return ids if isinstance(ids, list) and all(map(_is_id, ids)) else None


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_IDS

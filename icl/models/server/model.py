"""`ServerModel`: a model behind a server, where learners expect a backbone to prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.base import PROMPTED, UNLIMITED, Model
from icl.models.loading.identity import tokenizer_digest
from icl.models.server.by_choice import choice_scores
from icl.models.server.client import Client
from icl.models.server.config import ServerConfig
from icl.models.server.echo import EchoScorer
from icl.models.server.generated import generated_scores
from icl.models.server.info import server_info
from icl.models.server.next_token import NextTokenScorer
from icl.models.server.rates import Clock
from icl.models.server.replies import Scorer, text_of
from icl.models.server.session import Session
from icl.models.server.tokenizer import ServerTokenizer
from icl.models.tokens import ByteTokenizer
from icl.tools.closure import code_of


class ServerModel(Model):
    """A model that can be prompted and nothing else: its weights are out of reach.

    Attributes:
        scoring: the way in which label scores are got: that of the configuration, or, for
            ``auto``, the first that the server has of next-token, echo, generated and choice.
        chats: whether the server lays out chats itself.
    """

    can = PROMPTED
    kind = "a model on a server"

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        *,
        revision: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connect to a server.

        Args:
            name: the model, as the server calls it.
            config: where the server is and how to use it.
            revision: what the user knows of the model's version; part of its identity.
            clock: tells the time and waits.

        Raises:
            IclError: the server cannot be reached, refuses the key, does not serve the model, or
                cannot score as the configuration wants.
        """
        self.name = name
        self.client = Client(config, {"name": name, "revision": revision}, clock)
        info = server_info(self.client, name)
        # Replies are kept under all that tells this model from another of the same name.
        self.client.model |= {"kind": info.kind, **info.facts}
        self.context_length = config.context or info.context or UNLIMITED
        self._session = Session(self.client, name, info.kind, self.meter)
        self._session.settle()
        self.chats = self._session.chat
        self.tokenizer, knows_ids = self._find_tokenizer(config)
        self.scoring, self._scorer = self._find_scorer(config, knows_ids)

    @cached_property
    def identity(self) -> str:
        """A hash of address, API, model, context, tokenizer, scoring and its code: 16 hex digits.

        The model is known by its name, the revision that the user states, and what the server says
        of it (llama.cpp: its sizes and quantisation; vLLM: its origin). A hosted model may change
        behind its name all the same: state a revision, and change it when you learn of that.
        """
        config = self.client.config
        code = code_of(__name__)  # of this road to a model; no learner's own module leads here
        parts = [config.url, config.api, self.client.model, self.scoring, self.context_length, code]
        if config.tokenizer is not None:  # of this machine, by its content
            parts.append(tokenizer_digest(self.tokenizer))
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Score every answer after every prompt, float32, shape (prompts, answers).

        How each score was got is counted on `meter.scored`.
        """
        scores = self._scorer(prompts, answers)
        self.meter.scored.update(scores.ways)
        return torch.tensor(scores.rows, dtype=torch.float32).reshape(len(prompts), len(answers))

    def write(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """Let the model go on after each prompt; texts end before the first stop string.

        Returns:
            One list a prompt, with `samples` texts.
        """
        bodies = [
            self._session.body(
                prompt,
                max_tokens=max_new_tokens,
                temperature=temperature,
                stop=stop[:_MOST_STOPS],
                seed=seed + number if temperature > 0 else None,
            )
            for prompt in prompts
            for number in range(samples)
        ]
        texts = [_cut(text_of(data), stop) for data in self._session.ask_all(bodies)]
        return [texts[i * samples : (i + 1) * samples] for i in range(len(prompts))]

    def _find_tokenizer(self, config: ServerConfig) -> tuple[Any, bool]:
        """Return the model's tokenizer, and whether its ids are the server's own."""
        if config.tokenizer is not None:
            from icl.models.loading.load import load_tokenizer

            return load_tokenizer(config.tokenizer), True
        asked = ServerTokenizer(self.client, self.name)
        return (asked, True) if asked.works() else (ByteTokenizer(), False)

    def _find_scorer(self, config: ServerConfig, knows_ids: bool) -> tuple[str, Scorer]:
        session = self._session
        echo = EchoScorer(session)
        tokens = NextTokenScorer(session, self.tokenizer, echo)
        known: dict[str, tuple[Scorer, bool]] = {
            "next-token": (tokens, not session.chat and knows_ids and tokens.works()),
            "echo": (echo, not session.chat and echo.works()),
            "generated": (partial(generated_scores, session), session.alternatives > 0),
            "choice": (partial(choice_scores, session), True),
        }
        able = {way: scorer for way, (scorer, works) in known.items() if works}
        way = next(iter(able)) if config.scoring == "auto" else config.scoring
        if way in able:
            return way, able[way]
        raise IclError(
            f"The server {config.url} cannot score by {config.scoring!r}; it can by"
            f" {', '.join(map(repr, able))}: set `model.server.scoring`, or leave it to 'auto'."
        )


_MOST_STOPS = 4  # more than these hosted servers refuse; all are cut off here


def _cut(text: str, stop: Sequence[str]) -> str:
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(ends)] if ends else text

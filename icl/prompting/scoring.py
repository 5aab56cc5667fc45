"""Label scores of prompts: direct, channel and PMI, each with the demonstrations of its query."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.context import fit_fields
from icl.models.scoring.finite import finite
from icl.models.scoring.scorer import remembered_scores
from icl.models.tokens import encode
from icl.prompting.fitting import fit
from icl.prompting.format import Demonstrations, PlainFormat
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.base import Model
    from icl.prompting.chat import ChatFormat

Scoring = Literal["direct", "channel", "pmi"]
Normalise = Literal["sum", "token", "character", "byte"]
_INPUTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Query:
    """An input and the demonstrations that stand before it."""

    shown: tuple[Example, ...]
    fields: Fields


def by_demonstrations(queries: Sequence[Query]) -> list[list[int]]:
    """Return the places of the queries that have the same demonstrations, group by group."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, query in enumerate(queries):
        groups.setdefault(tuple(map(id, query.shown)), []).append(i)
    return list(groups.values())


@dataclass(slots=True)
class Scorer:
    """Scores an episode's labels.

    - ``direct``: ``log p(y | D, x)``.
    - ``channel``: ``log p(x | D, y)``, with label and input swapped (Min et al. 2022,
      arXiv 2108.04106); each label's prompt is read once for all queries.
    - ``pmi``: ``log p(y | D, x) - log p(y | domain prompt)`` (Holtzman et al. 2021,
      arXiv 2104.08315); the domain prompt has no demonstrations.

    Attributes:
        backbone: the model.
        labels: the answer space.
        format: how prompts are written; the channel needs a `PlainFormat`.
        scoring, normalise: what is scored, and by what length it is divided.
        domain_prompt: PMI's prompt; by default the template's cue.
        adapter: LoRA factors of a meta-trained model.
        said: whether the loss of demonstrations has been told; once is enough.
    """

    backbone: Model
    labels: Labels
    format: PlainFormat | ChatFormat
    scoring: Scoring = "direct"
    normalise: Normalise = "sum"
    domain_prompt: str | None = None
    adapter: Adapter | None = None
    said: bool = field(default=False)

    def log_probs(self, queries: Sequence[Query]) -> Tensor:
        """Return normalised log-probabilities, float32 on the CPU, shape (queries, labels)."""
        if not queries:
            return torch.zeros(0, len(self.labels))
        queries = self._fitted(queries)
        told = f"The model {self.backbone.name!r}"
        if self.scoring == "channel":
            return finite(self._channel(queries).log_softmax(1), told)
        prompts = [self.format.prompt(self._pairs(q.shown), q.fields) for q in queries]
        scores = self._direct(prompts)
        if self.scoring == "pmi":
            domain = self.domain_prompt
            scores = scores - self._direct([self.format.domain() if domain is None else domain])
        return finite(scores.log_softmax(1), told)

    def _direct(self, prompts: Sequence[str]) -> Tensor:
        answers = [self.format.answer(word) for word in self.labels.words]
        scores = remembered_scores(
            self.backbone,
            prompts,
            answers,
            adapter=self.adapter,
            # dividing by lengths does not leave constants of a prompt constant
            relative=self.normalise == "sum",
        ).cpu()
        return scores / lengths(self.backbone, prompts, answers, self.normalise)

    def _channel(self, queries: Sequence[Query]) -> Tensor:
        assert isinstance(self.format, PlainFormat)
        template = self.format.channel
        inputs = [template.input(q.fields) for q in queries]
        scores = torch.zeros(len(queries), len(self.labels))
        for places in by_demonstrations(queries):
            pairs = self._pairs(queries[places[0]].shown)
            prompts = [template.prompt(pairs, word) for word in self.labels.words]
            for begin in range(0, len(places), _INPUTS_AT_ONCE):
                some = places[begin : begin + _INPUTS_AT_ONCE]
                answers = [inputs[i] for i in some]
                found = remembered_scores(
                    self.backbone, prompts, answers, adapter=self.adapter
                ).cpu()
                found = found / lengths(self.backbone, prompts, answers, self.normalise)
                scores[some] = found.T
        return scores

    def _pairs(self, shown: Sequence[Example]) -> Demonstrations:
        words = dict(zip(self.labels.names, self.labels.words, strict=True))
        return [(example.fields, words[example.label]) for example in shown]

    def _fitted(self, queries: Sequence[Query]) -> list[Query]:
        """Cut what fits not even alone, and drop the demonstrations that do not fit beside it."""
        tokenizer, room = self.backbone.tokenizer, self.backbone.context_length
        if self.scoring != "channel":
            answers = [self.format.answer(word) for word in self.labels.words]
            room -= max(len(row) for row in encode(tokenizer, answers))
        texts = [text for q in queries for text in self._texts(q.fields, q.shown)]
        if max(map(len, encode(tokenizer, texts))) <= room:  # one call for all is much faster
            return list(queries)
        asked = fit_fields(
            self.backbone,
            [query.fields for query in queries],
            lambda fields: self._texts(fields, ()),
            reserve=self.backbone.context_length - room,
        )
        queries = [Query(q.shown, f) for q, f in zip(queries, asked, strict=True)]
        fitted = [
            Query(fit(tokenizer, q.shown, partial(self._texts, q.fields), room), q.fields)
            for q in queries
        ]
        least = min(range(len(queries)), key=lambda i: len(fitted[i].shown) - len(queries[i].shown))
        if not self.said and len(fitted[least].shown) < len(queries[least].shown):
            self.said = True
            warnings.warn(
                f"Only {len(fitted[least].shown)} of {len(queries[least].shown)} demonstrations "
                f"fit in {room} tokens of context.",
                stacklevel=3,
            )
        return fitted

    def _texts(self, fields: Fields, shown: Sequence[Example]) -> list[str]:
        """Return what must fit whole: the prompt, or for the channel every label's with the input.

        Raises:
            IclError: nothing stands before the answer.
        """
        pairs = self._pairs(shown)
        if self.scoring != "channel":
            return [self.format.prompt(pairs, fields)]
        if not isinstance(self.format, PlainFormat):
            raise IclError("The channel direction has no chat form; set `chat: none`.")
        template = self.format.channel
        end = template.input(fields)
        return [template.prompt(pairs, word) + end for word in self.labels.words]


def lengths(
    backbone: Model,
    prompts: Sequence[str],
    answers: Sequence[str],
    by: Normalise,
) -> Tensor:
    """Return what each score is divided by, float32, shape (prompts, answers); at least 1.

    They say different things across scripts: a Thai letter is three bytes and a Latin one is one,
    and tokenizers cut some languages far finer than others. The sum is the log-probability itself.

    Tokens are those that were scored, which depends on the prompt where a token spans the
    boundary. Characters (code points) and bytes (UTF-8) leave out blanks around the answer.
    """
    if by == "token":
        rows = backbone.answer_sizes(prompts, answers)
        return torch.tensor(rows, dtype=torch.float32).reshape(len(prompts), len(answers))
    if by == "sum":
        sizes = [1.0] * len(answers)
    else:
        visible = [answer.strip() for answer in answers]
        sizes = [float(len(v) if by == "character" else len(v.encode())) for v in visible]
    return torch.tensor(sizes).clamp_min(1.0).expand(len(prompts), -1)


def support_score(scorer: Scorer, support: Sequence[Example]) -> float:
    """Return the mean log-probability of each support label given all other examples.

    Perez et al. 2021 (arXiv 2105.11447) call it leave-one-out cross-validation of prompts; it says
    less than it seems to where shots are few.
    """
    queries = [
        Query(tuple(e for e in support if e is not left_out), left_out.fields)
        for left_out in support
    ]
    log_probs = scorer.log_probs(queries)
    columns = [scorer.labels.index(e.label) for e in support]
    return float(log_probs[range(len(support)), columns].mean())


def best(scorers: Sequence[Scorer], support: Sequence[Example]) -> Scorer:
    """Return the scorer with the best support score; of equals, or without support, the first.

    One support example is left out at a time; queries are not looked at.
    """
    if len(scorers) == 1 or not support:
        return scorers[0]
    scores = [round(support_score(scorer, support), 6) for scorer in scorers]
    return scorers[scores.index(max(scores))]


def averaged(members: Sequence[Tensor]) -> Tensor:
    """Return ``log mean_m p_m(y | x)`` of prompts that say the same in other ways.

    Normalised log-probabilities, shape (queries, labels).
    """
    if len(members) == 1:
        return members[0]
    stacked = torch.stack(list(members))
    return (stacked.logsumexp(0) - math.log(len(members))).log_softmax(1)

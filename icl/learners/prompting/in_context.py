"""In-context learning: the support set is shown in the prompt, and labels are scored after it.

Brown et al. 2020 (arXiv 2005.14165). By default the score of a label is the log-probability of its
word after the prompt, summed over the word's tokens, exact (see `icl.models.scoring.scorer`), and
normalised over the episode's labels. What else can be asked for stands in `InContextParams` and in
docs/in-context.md, and one idea a file in `icl.prompting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from icl.errors import IclError
from icl.learners.base import Choices, Learner, Predictor
from icl.learners.prompting.params import InContextParams, ZeroShotParams
from icl.learners.prompting.prompt_tokens import prompted
from icl.models.context import fit_fields
from icl.models.scoring.alike import check_words
from icl.prompting.calibration import (
    TRANSDUCTIVE,
    batch_bias,
    calibrated,
    content_free,
    domain_inputs,
    prior_bias,
)
from icl.prompting.choice import EMBEDDED
from icl.prompting.consistency import ChainOfThought, vote
from icl.prompting.demonstrations import Demonstrator
from icl.prompting.order import BY_ENTROPY
from icl.prompting.scoring import Query, Scorer, averaged, best
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.episodes.episode import Episode
    from icl.learners.work import TokenCounter
    from icl.models.adapters.lora import Adapter
    from icl.models.base import Ability, Model
    from icl.tools.amounts import Work


@dataclass(eq=False)
class PromptPredictor(Predictor):
    """Labels texts by prompts, as `InContextParams` say."""

    backbone: Model
    support: tuple[Example, ...]
    labels: Labels
    params: InContextParams
    adapter: Adapter | None = None

    def __post_init__(self) -> None:
        if self.adapter is not None:
            self.trained_parameters = sum(v.numel() for v in self.adapter.factors.values())

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Average over templates and orders the calibrated scores of the labels."""
        members = [
            self._calibrated(scorer, [Query(s, t) for s, t in zip(shown, texts, strict=True)])
            for scorer in self._scorers
            for shown in self._demonstrator.arrangements(texts, scorer)
        ]
        return averaged(members)

    def generate(self, texts: Sequence[Fields]) -> list[str]:
        """Write an answer to each text; of several, the one that most agree on.

        Every template and every order of demonstrations writes as many samples.

        Raises:
            IclError: the parameters compare labels, or ask in a way that the model has not.
        """
        from icl.models.scoring.generate import generate

        params = self.params
        params.check_task(self.labels, self.support)
        tokenizer = self.backbone.tokenizer
        room = self.backbone.context_length - params.max_new_tokens
        votes: list[list[str]] = [[] for _ in texts]
        for name in params.names:
            labels = params.worded(self.labels, name)
            chain = params.chain(tokenizer, labels.template)
            words = dict(zip(labels.names, labels.words, strict=True))
            asked = self._within(chain, words, texts)
            for shown in self._demonstrator.arrangements(texts, None):
                samples = generate(
                    self.backbone,
                    [
                        chain.fitted(tokenizer, s, words, fields, room)
                        for s, fields in zip(shown, asked, strict=True)
                    ],
                    max_new_tokens=params.max_new_tokens,
                    stop=(*params.stop, *chain.stops),
                    samples=params.samples,
                    temperature=params.temperature,
                    seed=params.seed,
                    adapter=self.adapter,
                )
                for own, written in zip(votes, samples, strict=True):
                    own += [chain.answer(text) for text in written]
        return [vote(own) for own in votes]

    def _within(
        self, chain: ChainOfThought, words: Mapping[str, str], texts: Sequence[Fields]
    ) -> list[Fields]:
        return fit_fields(
            self.backbone,
            texts,
            lambda fields: [chain.prompt((), words, fields)],
            reserve=self.params.max_new_tokens,
        )

    @cached_property
    def _demonstrator(self) -> Demonstrator:
        params = self.params
        return Demonstrator(
            self.backbone,
            self.support,
            choice=params.choice,
            count=params.demonstrations,
            diversity=params.diversity,
            order=params.order,
            candidates=params.candidates,
            probes=params.probes,
            probe_count=params.probe_count,
            orders=params.ensemble_orders,
            seed=params.seed,
        )

    @cached_property
    def _scorers(self) -> list[Scorer]:
        scorers = [self._scorer(self.params.worded(self.labels, n)) for n in self.params.names]
        return [best(scorers, self.support)] if self.params.template == "best" else scorers

    def _scorer(self, labels: Labels) -> Scorer:
        params, tokenizer = self.params, self.backbone.tokenizer
        check_words(tokenizer, labels)
        return Scorer(
            self.backbone,
            labels,
            params.format(tokenizer, labels.template),
            params.scoring,
            params.normalise,
            params.domain_prompt,
            self.adapter,
        )

    def _calibrated(self, scorer: Scorer, queries: Sequence[Query]) -> Tensor:
        found, calibration = scorer.log_probs(queries), self.params.calibration
        if calibration == "none" or not queries:
            return found
        if calibration == "batch":
            return calibrated(found, batch_bias(found))
        if calibration == "domain" and self.support:
            free = domain_inputs(self.support, self.params.seed)
        else:  # without support there are no words of the domain
            free = content_free(queries[0].fields)
        return calibrated(found, prior_bias(scorer, queries, free))


class ZeroShot(Learner):
    """Zero-shot prompting: the instruction and the query only; the support set is ignored."""

    method = "zero-shot"
    writes = True
    Params = ZeroShotParams
    search: ClassVar[Choices] = {
        "template": ("task", "arrow", "question", "options"),
        "calibration": ("none", "contextual"),
        "normalise": ("sum", "token"),
    }

    @classmethod
    def needs(cls, params: ZeroShotParams) -> frozenset[Ability]:
        """Scores."""
        return frozenset({"score"})

    def __init__(self, backbone: Model, params: ZeroShotParams) -> None:
        """Score with this backbone.

        Raises:
            IclError: prompts are to be laid out as chats, which the backbone's server does itself.
        """
        if params.chat != "none" and backbone.chats:
            raise IclError(
                "A chat server lays out chats itself; set `chat: none` for the learner, or"
                " `model.server.api: completions`."
            )
        self._backbone = backbone
        self._params = InContextParams(**params.model_dump())
        # here it is the parameters that decide, not the class
        self.transductive = params.calibration in TRANSDUCTIVE  # type: ignore[misc]

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: ZeroShotParams) -> Work:
        """Ask about each query, with nothing before it."""
        return prompted(counter, (), episode, InContextParams(**params.model_dump()))

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Keep the label words only."""
        return PromptPredictor(self._backbone, (), labels, self._params)


class InContext(ZeroShot):
    """Few-shot prompting: support examples before each query, by default all of them in order."""

    method = "in-context"
    Params = InContextParams
    search: ClassVar[Choices] = {**ZeroShot.search, "calibration": ("none", "contextual", "domain")}

    @classmethod
    def needs(cls, params: InContextParams) -> frozenset[Ability]:  # type: ignore[override]
        """Scores; vectors where demonstrations are chosen by them, and what writes its probes."""
        found: set[Ability] = {"score"}
        if params.choice in EMBEDDED or params.order == "similarity":
            found.add("states")
        if params.order in BY_ENTROPY and params.probes == "written":
            found.add("write")
        return frozenset(found)

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: InContextParams) -> Work:  # type: ignore[override]  # its own parameters
        """Ask about each query after demonstrations."""
        return prompted(counter, episode.support, episode, params)

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Keep the support set as demonstrations; nothing is trained."""
        return PromptPredictor(self._backbone, tuple(support), labels, self._params)

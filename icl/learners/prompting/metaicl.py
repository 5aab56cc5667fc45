"""MetaICL: a model is tuned to learn in context (Min et al. 2022, arXiv 2110.15943).

Chen et al. 2022 (arXiv 2110.07814) call the same in-context tuning. Each training episode is
written as one prompt for each query, all demonstrations before it, and the loss is what the model
would be asked for: ``-log p(y | D, x)``, or in the channel form ``-log p(x | D, y)``. At test time
nothing is trained: the support set stands in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from icl.episodes.episode import Episode
from icl.learners.base import Choices, MetaLearner, Predictor
from icl.learners.gradient.base import LoraParams
from icl.learners.prompting.in_context import PromptPredictor
from icl.learners.prompting.params import InContextParams
from icl.learners.prompting.prompt_tokens import prompted, right_answers
from icl.models.adapters.lora import Adapter
from icl.models.adapters.lora_start import lowest_layer
from icl.models.context import fit_fields
from icl.models.scoring.scorer import make_pair_plan, score
from icl.prompting.channel import split
from icl.prompting.fitting import fit
from icl.prompting.scoring import Normalise
from icl.prompting.seeds import shuffled
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work, trained

if TYPE_CHECKING:
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability


class MetaICLParams(LoraParams):
    """The adapter, and how labels are scored.

    Attributes:
        scoring: the direction: ``direct`` scores labels, ``channel`` scores inputs.
        normalise: what a score is divided by where a label is chosen; ``token`` is the authors'
            own: the mean over the target's tokens, as in the loss.
    """

    scoring: Literal["direct", "channel"] = "direct"
    normalise: Normalise = "token"

    def prompts(self) -> InContextParams:
        """Return how the tuned model is asked."""
        return InContextParams(scoring=self.scoring, normalise=self.normalise)


class MetaICL(MetaLearner):
    """Learn LoRA factors with which the model learns from demonstrations in its prompt.

    The loss of a query is the mean over its target's tokens of their negative log-probability
    over the whole vocabulary; the target is the label's word, or in the channel form the input.
    The label with the least such loss is chosen. Both are so in the authors' code
    (facebookresearch/MetaICL, metaicl/model.py, `run_model` and `do_predict`). In training the
    demonstrations stand in an order drawn for each episode; afterwards in the episode's own.
    """

    method = "metaicl"
    Params = MetaICLParams
    search: ClassVar[Choices] = {
        "training.learning_rate": (5e-4, 1e-3, 2e-3, 5e-3),
        "rank": (4, 8, 16),
        "normalise": ("sum", "token"),
    }

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """Scores through LoRA factors."""
        return frozenset({"score", "adapt"})

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: MetaICLParams) -> Work:
        """Ask about each query after all demonstrations."""
        return prompted(counter, episode.support, episode, params.prompts())

    @classmethod
    def training_work(
        cls, counter: TokenCounter, episodes: Sequence[Episode], params: MetaICLParams
    ) -> Work:
        """Take gradients of each query's target."""
        return trained(sum(right_answers(counter, e, params.prompts()) for e in episodes))

    def __init__(self, backbone: Backbone, params: MetaICLParams) -> None:
        """Draw the start, with which the model is what it was, or read it from an adapter."""
        self._backbone = backbone
        self._params = params
        self._scale = params.spec(backbone).scale
        self._factors = {
            name: value.requires_grad_() for name, value in params.begin(backbone).items()
        }

    def trainable_parameters(self) -> Mapping[str, Tensor]:
        """Return the LoRA factors."""
        return self._factors

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean loss over all queries of some episodes; each query weighs the same.

        Metrics: the mean log-probability of a target, ``target_log_prob``.
        """
        prompts, targets = [], []
        for episode in episodes:
            shown = shuffled(episode.support, self._params.seed, episode.fingerprint)
            for query in episode.query:
                prompt, target = self._written(shown, episode.labels, query)
                prompts.append(prompt)
                targets.append(target)
        plan = make_pair_plan(self._backbone, prompts, targets)
        start = lowest_layer(self._backbone, self._factors)
        found = score(
            self._backbone,
            plan,
            adapter=Adapter(self._factors, self._scale),
            trunk=self._backbone.trunk(plan.layout, start),
            start=start,
        )[:, 0]
        sizes = torch.bincount(plan.owner, minlength=len(prompts))
        loss = -(found / sizes).mean()
        return loss, {"target_log_prob": float(found.detach().mean())}

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Show the support set in the prompt; nothing is trained."""
        adapter = Adapter(
            {name: value.detach().clone() for name, value in self._factors.items()}, self._scale
        )
        shown = tuple(support)
        return PromptPredictor(self._backbone, shown, labels, self._params.prompts(), adapter)

    def _written(self, shown: Sequence[Example], labels: Labels, query: Example) -> tuple[str, str]:
        """Write a labelled query as (prompt, target), with the demonstrations that fit."""
        words = dict(zip(labels.names, labels.words, strict=True))
        template, backbone = labels.template, self._backbone

        def write(some: Sequence[Example], asked: Fields, word: str) -> tuple[str, str]:
            pairs = [(e.fields, words[e.label]) for e in some]
            if self._params.scoring == "channel":
                turned = split(template)
                return turned.prompt(pairs, word), turned.input(asked)
            return template.prompt(pairs, asked), template.answer(word)

        # with every label's word, so that the right one does not decide what is cut
        [asked] = fit_fields(
            backbone, [query.fields], lambda f: ["".join(write((), f, w)) for w in labels.words]
        )
        kept = fit(
            backbone.tokenizer,
            shown,
            lambda some: ["".join(write(some, asked, w)) for w in labels.words],
            backbone.context_length,
        )
        return write(kept, asked, words[query.label])

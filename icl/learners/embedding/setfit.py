"""SetFit: contrastive tuning of a sentence encoder on each support set, then a linear head.

Tunstall et al. 2022 (arXiv 2209.11055), with sentence-transformers (extra ``setfit``) for model and
loss. The whole encoder is tuned: the costliest baseline here, seconds to minutes a task.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.errors import IclError
from icl.learners.base import Choices, Learner, Params, Predictor
from icl.learners.embedding.base import HeadPredictor
from icl.learners.embedding.heads import linear
from icl.learners.support import in_order, places, present_columns, uniform
from icl.models.context import joined
from icl.models.loading.named import model_path
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work, forward, trained

if TYPE_CHECKING:
    from icl.episodes.episode import Episode
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability


class SetFitParams(Params):
    """The contrastive tuning.

    Attributes:
        pairs: rounds of pairs (the paper's R, the setfit package's ``num_iterations``): in each,
            every example meets one of its class and one of another. The paper's 20 is the default;
            time goes with it.
        batch: pairs a step.
        learning_rate: of AdamW.
        C: of the logistic regression on the tuned embeddings.
        seed: of the pairs and of dropout.
    """

    pairs: int = Field(default=20, ge=1)
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    C: float = Field(default=10.0, gt=0)
    seed: int = 0


class SetFit(Learner):
    """Pull a class's sentences together and others apart; fit logistic regression on the result."""

    method = "setfit"
    Params = SetFitParams
    search: ClassVar[Choices] = {
        "learning_rate": (1e-5, 2e-5, 5e-5, 1e-4),
        "pairs": (5, 10, 20),
        "C": (1.0, 10.0, 100.0),
    }

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """A sentence encoder that sentence-transformers loads once more."""
        return frozenset({"tune"})

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: SetFitParams) -> Work:
        """Tune on two pairs of two texts for each example and round, then embed everything."""
        support, query = (
            counter.texts([joined(e.fields) for e in side])
            for side in (episode.support, episode.query)
        )
        return trained(4 * params.pairs * support) + forward(support + query)

    def __init__(self, backbone: Backbone, params: SetFitParams) -> None:
        """Load the encoder once more, for sentence-transformers; each task tunes a copy.

        Raises:
            IclError: the weights are held in few bits, or sentence-transformers is not installed.
        """
        if getattr(backbone.model, "is_quantized", False):
            raise IclError(
                "The method 'setfit' tunes all weights, and `model.quantise` holds them in few"
                " bits; drop one of the two."
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise IclError(
                "The method 'setfit' needs the package 'sentence-transformers', which is not"
                " installed; run: pip install 'icl[setfit]'."
            ) from error
        self._start = SentenceTransformer(
            model_path(backbone.name),
            device=str(backbone.device),
            revision=getattr(backbone.model.config, "_commit_hash", None),  # that was loaded
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        self._meter = backbone.meter
        self._params = params

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Tune a copy; with fewer than two labels in support, every label is alike."""
        columns = present_columns(support, labels)
        if len(columns) < 2:
            return uniform(labels)
        ordered = in_order(support)
        wanted = places(ordered, labels, columns)
        texts = [example.text for example in ordered]
        model = copy.deepcopy(self._start)
        self._tune(model, texts, wanted)
        head = linear.logistic(
            self._encode(model, texts)[None], wanted[None], len(columns), self._params.C
        )

        def represent(queries: Sequence[Fields], _: Labels) -> Tensor:
            return self._encode(model, [joined(fields) for fields in queries])

        moved = head.trained + sum(p.numel() for p in model.parameters())
        return HeadPredictor(represent, labels, columns, replace(head, trained=moved))

    def _tune(self, model: Any, texts: Sequence[str], wanted: Tensor) -> None:
        from sentence_transformers.losses import CosineSimilarityLoss

        loss = CosineSimilarityLoss(model)
        optimiser = torch.optim.AdamW(model.parameters(), lr=self._params.learning_rate)
        pairs = draw_pairs(wanted, self._params.pairs, self._params.seed)
        model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._params.seed)  # dropout
            for at in range(0, len(pairs), self._params.batch):
                part = pairs[at : at + self._params.batch]
                sides = [
                    self._tokens(model, [texts[pair[side]] for pair in part]) for side in (0, 1)
                ]
                alike = torch.tensor([float(wanted[a] == wanted[b]) for a, b in part])
                optimiser.zero_grad()
                torch.autograd.backward(loss(sides, alike.to(model.device)))
                optimiser.step()
        model.eval()

    def _tokens(self, model: Any, texts: Sequence[str]) -> Any:
        tokens = model.tokenize(list(texts))
        count = int(tokens["attention_mask"].sum())
        self._meter.prompt_tokens += count
        self._meter.computed_tokens += count
        return {
            name: value.to(model.device) if isinstance(value, Tensor) else value
            for name, value in tokens.items()
        }

    def _encode(self, model: Any, texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            found: Tensor = model(self._tokens(model, texts))["sentence_embedding"]
        return torch.nn.functional.normalize(found.float().cpu(), dim=1)


def draw_pairs(wanted: Tensor, rounds: int, seed: int) -> list[tuple[int, int]]:
    """Draw pairs of examples: each with one of its own class, where there is one, and one of not.

    Args:
        wanted: columns, shape (n,), of at least two classes.
        rounds: how many such pairs of each kind every example begins.
        seed: of the draw.

    Returns:
        Shuffled pairs of different examples.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(rounds):
        for i, own in enumerate(wanted.tolist()):
            same = [j for j in range(len(wanted)) if wanted[j] == own and j != i]
            other = [j for j in range(len(wanted)) if wanted[j] != own]
            for choice in (same, other):
                if choice:
                    at = int(torch.randint(len(choice), (1,), generator=generator))
                    pairs.append((i, choice[at]))
    order = torch.randperm(len(pairs), generator=generator).tolist()
    return [pairs[i] for i in order]

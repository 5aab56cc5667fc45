"""`EpisodicLearner`: a head meta-trained over episodes, on a representation that may be too.

What is trained is a small network (`Net`), and either a light projection of frozen embeddings or
LoRA factors of the model that embeds.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from icl.episodes.episode import Episode
from icl.learners.adapter_params import AdapterParams
from icl.learners.base import Choices, MetaLearner, Predictor
from icl.learners.embedding.base import HeadPredictor, Support
from icl.learners.embedding.features import FeatureParams, Features, targets
from icl.learners.embedding.heads.fitted import Fitted
from icl.learners.support import in_order, places, present_columns, uniform
from icl.models.adapters.lora import Adapter
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work, forward, kept, trained

if TYPE_CHECKING:
    from icl.learners.work import TokenCounter
    from icl.models.backbone import Backbone
    from icl.models.base import Ability
    from icl.models.embedding.embedder import Embedder

_TEXTS_AT_ONCE = 64


class EpisodicParams(AdapterParams, FeatureParams):
    """How texts are embedded, and what of that is trained.

    Attributes:
        tune: ``projection`` adds a low-rank linear map to frozen embeddings, starting at nothing,
            so that the untrained learner is the frozen one; ``lora`` trains LoRA factors of the
            model itself; ``nothing`` trains the head alone.
        projection_rank: of the projection.
    """

    tune: Literal["projection", "lora", "nothing"] = "projection"
    projection_rank: int = Field(default=32, ge=1)
    whiten: Literal[False] = False


class Net(nn.Module):
    """What a meta-trained head is made of: a projection and whatever a subclass adds.

    Args:
        width: numbers in an embedding.
        params: the learner's parameters.
    """

    def __init__(self, width: int, params: Any) -> None:
        super().__init__()
        self.width = width
        self._normalise = bool(params.normalise)
        rank = params.projection_rank if params.tune == "projection" else 0
        self.down = nn.Parameter(torch.zeros(rank, width)) if rank else None
        self.up = nn.Parameter(torch.zeros(width, rank)) if rank else None

    def represent(self, vectors: Tensor) -> Tensor:
        """Project embeddings, shape (..., width), to the same shape."""
        if self.down is None or self.up is None:
            return vectors
        moved = vectors + vectors @ self.down.T @ self.up.T
        return nn.functional.normalize(moved, dim=-1) if self._normalise else moved

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        """Fit to some tasks: represented (tasks, n, width), (tasks, n); the graph is kept."""
        raise NotImplementedError

    def check(self, ways: int) -> None:
        """Raise `IclError` where a new task has more labels than this head can answer."""

    def loss(self, scores: Tensor, wanted: Tensor) -> Tensor:
        """Return each task's loss: (tasks, q, ways), (tasks, q) -> (tasks,)."""
        right = scores.log_softmax(-1).gather(2, wanted[..., None])[..., 0]
        return -right.mean(1)

    def seeded(self, seed: int) -> Net:
        """Draw all matrices uniformly within one over the square root of their inputs.

        Biases become zero; what has a start by design (`up`, temperatures) keeps it.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and name != "up":
                bound = parameter[0].numel() ** -0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif "bias" in name:
                nn.init.zeros_(parameter)
        return self


def embed(features: Features, shown: Sequence[str], adapter: Adapter | None) -> Tensor:
    """Embed texts, shape (texts, width) on the CPU: from the store, or with an adapter in a graph.

    With an adapter each distinct text runs once, in batches of similar lengths.
    """
    if adapter is None:
        return features.finish(features.embedder.embed(shown))
    distinct = list(dict.fromkeys(shown))
    embedder = cast("Embedder", features.embedder)  # of a model that takes adapters
    rows = embedder.encode(distinct)
    embedder.backbone.meter.prompt_tokens += sum(map(len, rows))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = [
        embedder.run([rows[i] for i in order[at : at + _TEXTS_AT_ONCE]], adapter)
        for at in range(0, len(order), _TEXTS_AT_ONCE)
    ]
    place = {distinct[i]: where for where, i in enumerate(order)}
    return features.finish(torch.cat(parts).cpu()[[place[text] for text in shown]])


class EpisodicLearner(MetaLearner):
    """A meta-trained head on embeddings.

    Attributes:
        network: what the head is made of.
    """

    trains = "head"
    network: ClassVar[type[Net]]
    Params: ClassVar[type[FeatureParams]] = EpisodicParams
    search: ClassVar[Choices] = {
        "training.learning_rate": (5e-4, 1e-3, 2e-3, 5e-3),
        "projection_rank": (16, 32, 64),
    }

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """Vectors, and LoRA factors where these are trained."""
        found: frozenset[Ability] = params.needs
        return found | {"adapt"} if params.tune == "lora" else found

    def __init__(self, backbone: Backbone, params: Any) -> None:
        """Make the network and, where they are trained, the LoRA factors."""
        self._features = Features(backbone, params)
        self._seed = params.seed
        with torch.random.fork_rng(devices=[]):  # modules draw when made; we draw again ourselves
            self._net = self.network(self._features.embedder.width, params).seeded(params.seed)
        self._factors: dict[str, Tensor] = {}
        self._scale = 0.0
        if params.tune == "lora":
            self._scale = params.spec(backbone).scale
            drawn = params.begin(backbone)
            self._factors = {name: value.requires_grad_() for name, value in drawn.items()}

    @classmethod
    def alone(cls, params: Any) -> str:
        """Name the rule of `icl.learners.embedding.heads.alone` that answers as this head does.

        Empty: nothing without icl does.
        """
        return ""

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: Any) -> Work:
        """Embed every text once; with an adapter of its own, each side anew."""
        support, query = (
            params.uncut(x, episode.labels, counter.encoder)
            for x in (episode.support, episode.query)
        )
        if params.tune != "lora":
            return forward(counter.embedded((*support, *query), params.layer))
        tokens = counter.texts(support) + counter.texts(query)
        return forward(tokens * counter.depth(params.layer))

    @classmethod
    def training_work(cls, counter: TokenCounter, episodes: Sequence[Episode], params: Any) -> Work:
        """Pass over every text with an adapter; frozen texts are embedded where they are new."""
        each = [params.uncut((*e.support, *e.query), e.labels, counter.encoder) for e in episodes]
        if params.tune == "lora":
            tokens = sum(counter.texts(texts) for texts in each) * counter.depth(params.layer)
            top = counter.adapted(params.top_layers)
            return kept(tokens * (1 - top)) + trained(tokens * top)
        return kept(sum(counter.embedded(texts, params.layer) for texts in each))

    def trainable_parameters(self) -> Mapping[str, Tensor]:
        """Return the network's parameters and the LoRA factors."""
        net = {f"net.{name}": value for name, value in self._net.named_parameters()}
        return net | {f"lora.{name}": value for name, value in self._factors.items()}

    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean query loss over episodes, and their mean query accuracy."""
        losses, hits = [], []
        for group, vectors in self._embedded(episodes):
            columns = [self._columns(e) for e in group]
            count = len(group[0].support)
            support, query = torch.stack(vectors).tensor_split([count], 1)
            wanted = torch.stack(
                [
                    c[targets([*e.support, *e.query], e.labels)]
                    for e, c in zip(group, columns, strict=True)
                ]
            )
            if self.trains_columns:
                support, wanted = _mixed(support, wanted, group, self._seed)
            head = self._net.fit(support, wanted[:, :count], group[0].ways)
            scores = head.scores(query)
            losses.append(self._net.loss(scores, wanted[:, count:]))
            hits.append((scores.argmax(-1) == wanted[:, count:]).float().mean(1))
        return torch.cat(losses).mean(), {"query_accuracy": float(torch.cat(hits).mean())}

    def _columns(self, episode: Episode) -> Tensor:
        """Return a training episode's columns: permuted by lot where labels are told by them."""
        if not self.trains_columns:
            return torch.arange(episode.ways)
        return torch.randperm(episode.ways, generator=_lot(episode, "columns", self._seed))

    def _embedded(
        self, episodes: Sequence[Episode]
    ) -> Iterator[tuple[list[Episode], list[Tensor]]]:
        """Embed all texts of some episodes at once; yield episodes of one shape together."""
        shown = [
            self._features.shown([x.fields for x in (*e.support, *e.query)], e.labels)
            for e in episodes
        ]
        adapter = Adapter(self._factors, self._scale) if self._factors else None
        vectors = embed(self._features, [text for texts in shown for text in texts], adapter)
        parts = torch.split(self._net.represent(vectors), [len(texts) for texts in shown])
        shapes: dict[tuple[int, int, int], list[int]] = {}
        for i, e in enumerate(episodes):
            shapes.setdefault((e.ways, len(e.support), len(e.query)), []).append(i)
        for members in shapes.values():
            yield [episodes[i] for i in members], [parts[i] for i in members]

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Embed one support set and fit the head."""
        return self.adapt_batch([(support, labels)])[0]

    @torch.no_grad()
    def adapt_batch(self, tasks: Sequence[Support]) -> list[Predictor]:
        """Fit the heads of several tasks.

        Support sets and labels are put in an order of their own, so that the order in which they
        were given decides nothing, even where the head reads them one after the other.
        """
        net: Any = copy.deepcopy(self._net).requires_grad_(False)
        factors = {name: value.detach().clone() for name, value in self._factors.items()}
        adapter = Adapter(factors, self._scale) if factors else None

        def represent(texts: Sequence[Fields], given: Labels) -> Tensor:
            shown = self._features.shown(texts, given)
            return cast("Tensor", net.represent(embed(self._features, shown, adapter)))

        trained = sum(value.numel() for value in self.trainable_parameters().values())
        found: list[Predictor] = []
        for support, labels in tasks:
            columns = present_columns(support, labels)
            if len(columns) < 2:
                found.append(uniform(labels))
                continue
            net.check(len(columns))
            columns.sort(key=lambda column: labels.names[column])
            ordered = in_order(support)
            vectors = represent([e.fields for e in ordered], labels)
            wanted = places(ordered, labels, columns)
            head = net.fit(vectors[None], wanted[None], len(columns))
            found.append(HeadPredictor(represent, labels, columns, replace(head, trained=trained)))
        return found


def _lot(episode: Episode, purpose: str, seed: int) -> torch.Generator:
    text = f"{purpose}/{seed}/{episode.fingerprint}"
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    )


def _mixed(
    support: Tensor, wanted: Tensor, group: Sequence[Episode], seed: int
) -> tuple[Tensor, Tensor]:
    """Shuffle each training episode's support by lot, for heads that read it in order."""
    count = support.shape[1]
    orders = torch.stack([torch.randperm(count, generator=_lot(e, "support", seed)) for e in group])
    mixed = support.gather(1, orders[..., None].expand_as(support))
    return mixed, torch.cat([wanted[:, :count].gather(1, orders), wanted[:, count:]], 1)

"""How many tokens an episode puts through a model, counted from its texts without the model.

Label scores are counted exactly as they are computed, each distinct token of an episode once
(`icl.models.trie`). What depends on the model's own answers (early stopping, written probes) is
taken at its most, or left out, as each function says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icl.episodes import Episode
from icl.models.tokens import encode, encode_pairs
from icl.models.trie import IntArray, pack
from icl.prompting.calibration import content_free, domain_inputs
from icl.prompting.channel import split
from icl.tasks.task import Example
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WITHOUT_MODEL = ("majority", "stratified", "tfidf")
PROMPTING = ("zero-shot", "in-context")
OVER_LORA = (
    "lora", "maml", "fomaml", "reptile", "anil", "meta-sgd", "maml++", "imaml", "protomaml",
)  # fmt: skip
_BACKWARD = 2.0  # passes' worth of products in a backward pass
_CURVED = 4.0  # the same in a second derivative's, beside the forward pass that is counted
_WATCH = 0.2  # every fifth step of meta-training looks at losses before and after adaptation


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through a model.

    Attributes:
        tokens: positions of forward passes, counted in whole passes, as records count them.
        passes: forward passes' worth of arithmetic, in tokens; more where gradients are taken.
    """

    tokens: float = 0.0
    passes: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Add up."""
        return Work(self.tokens + other.tokens, self.passes + other.passes)

    def __mul__(self, factor: float) -> Work:
        """Do it several times."""
        return Work(self.tokens * factor, self.passes * factor)


def _forward(tokens: float) -> Work:
    return Work(tokens, tokens)


def _trained(tokens: float, back: float = _BACKWARD) -> Work:
    return Work(tokens, tokens * (1 + back))


def _some(episode: Episode, query: Example, count: int) -> list[Example]:
    """Return so many examples in the support set's order, those of the query's label first."""
    first = sorted(
        range(len(episode.support)), key=lambda i: episode.support[i].label != query.label
    )
    return [episode.support[i] for i in sorted(first[:count])]


@dataclass
class Counter:
    """Counts the tokens of one experiment.

    Attributes:
        tokenizer: the model's.
        layers: how many it has.
        encoder: whether the model is an encoder, which reads bare texts.
        seen: texts that are embedded already, by the learner's way of embedding.
    """

    tokenizer: PreTrainedTokenizerBase
    layers: int = 1
    encoder: bool = False
    seen: dict[object, set[str]] = field(default_factory=dict)

    def judged(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work | None:
        """Return the work of one learner on one episode; None for a method that is not known."""
        if method in WITHOUT_MODEL:
            return Work()
        if method in PROMPTING or method == "metaicl":
            shown = () if method == "zero-shot" else self._demonstrations(episode, params)
            return self._prompted(episode, shown, params)
        if method in OVER_LORA:
            steps = params.get("adapt_steps")
            steps = params.get("inner_steps", params.get("steps")) if steps is None else steps
            return self._adapted(episode, method, params, int(steps or 0))
        if method == "setfit":
            support = self._texts(episode.support, episode, params)
            pairs = 4 * int(params["pairs"])  # two pairs of two texts for each example and round
            tuned = _trained(pairs * support) * float(len(episode.support) > 0)
            return tuned + _forward(support + self._texts(episode.query, episode, params))
        if "layer" not in params:
            return None
        return self._by_vectors(episode, method, params)

    def meta_trained(
        self,
        episodes: Sequence[Episode],
        method: str,
        params: Mapping[str, Any],
        training: TrainingConfig,
    ) -> Work | None:
        """Return the work of meta-training, from some of its episodes; None if not known."""
        if not episodes:
            return None
        total = Work()
        for episode in episodes:
            if method == "metaicl":
                one: Work | None = _trained(
                    self._prompted(episode, episode.support, params, rows=True).tokens
                )
            elif method in OVER_LORA:
                one = self._outer(episode, method, params)
            elif "layer" not in params:
                return None
            elif params.get("tune") == "lora":
                texts = self._texts((*episode.support, *episode.query), episode, params)
                one = _trained(texts * self._depth(params))
            else:  # frozen texts are embedded once: only those of new episodes are new
                both = (*episode.support, *episode.query)
                one = _forward(self._embedded(both, episode, params))
            total += one or Work()
        return total * (training.steps * training.meta_batch / len(episodes))

    # Prompting

    def _demonstrations(
        self, episode: Episode, params: Mapping[str, Any]
    ) -> tuple[Example, ...] | None:
        """Return what stands in every prompt; None where each query has its own."""
        if params.get("choice", "all") in ("knn", "bm25", "mmr", "dpp"):
            return None
        return episode.support[: params.get("demonstrations")]

    def _prompted(
        self,
        episode: Episode,
        shown: Sequence[Example] | None,
        params: Mapping[str, Any],
        *,
        rows: bool = False,
    ) -> Work:
        """Count prompts; `rows` for one target a query, the right one, as in meta-training."""
        queries = [q.fields for q in episode.query]
        tokens: float
        if shown is None:  # some examples for each query: here the same for those of one label
            turned = [
                _some(episode, query, int(params["demonstrations"])) for query in episode.query
            ]
            tokens = self._scored(episode, list(zip(turned, queries, strict=True)), params)
            if params["choice"] != "bm25":
                tokens += self._embedded((*episode.support, *episode.query), episode, {})
        else:
            tokens = self._scored(episode, [(shown, q) for q in queries], params, rows=rows)
        members = max(1, len(params.get("templates", ())) + (params.get("template") != "best"))
        members *= int(params.get("ensemble_orders", 1))
        free: list[Mapping[str, str]] = []
        if params.get("calibration") == "contextual" and queries:
            free = list(content_free(queries[0]))
        elif params.get("calibration") == "domain" and episode.support:
            free = list(domain_inputs(episode.support, int(params["seed"])))
        if free:
            before = [shown] if shown is not None else [turned[0]] * len(queries)
            tokens += self._scored(episode, [(s, f) for s in before for f in free], params)
        if params.get("order", "given") in ("global-entropy", "local-entropy") and shown:
            probes = [queries[i % len(queries)] for i in range(int(params["probe_count"]))]
            one = self._scored(episode, [(shown, probe) for probe in probes], params)
            tokens += int(params["candidates"]) * one
        return _forward(tokens * members)

    def _scored(
        self,
        episode: Episode,
        asked: Sequence[tuple[Sequence[Example], Mapping[str, str]]],
        params: Mapping[str, Any],
        *,
        rows: bool = False,
    ) -> float:
        """Count the distinct tokens of demonstrations, inputs and answers, scored or written."""
        labels, template = episode.labels, episode.labels.template
        words = dict(zip(labels.names, labels.words, strict=True))
        before = [[(e.fields, words.get(e.label, e.label)) for e in s] for s, _ in asked]
        if not labels.names:  # written answers
            prompts = [template.prompt(s, f) for s, (_, f) in zip(before, asked, strict=True)]
            samples = int(params.get("samples", 1)) * int(params.get("max_new_tokens", 0))
            return self._packed(encode(self.tokenizer, prompts)) + samples * len(prompts)
        if params.get("scoring") == "channel":
            turned = split(template)
            groups: dict[str, list[str]] = {}
            for shown, (_, fields) in zip(before, asked, strict=True):
                for word in labels.words:
                    groups.setdefault(turned.prompt(shown, word), []).append(turned.input(fields))
            rows_of = [self._rows([prompt], inputs) for prompt, inputs in groups.items()]
            return self._packed([row for rows in rows_of for row in rows])
        prompts = [template.prompt(s, f) for s, (_, f) in zip(before, asked, strict=True)]
        answers = [template.answer(word) for word in labels.words]
        return self._pairs(prompts, answers[:1] if rows else answers)

    def _pairs(self, prompts: Sequence[str], answers: Sequence[str]) -> float:
        return self._packed(self._rows(prompts, answers))

    def _rows(self, prompts: Sequence[str], answers: Sequence[str]) -> list[IntArray]:
        pairs = encode_pairs(self.tokenizer, prompts, answers)
        return [pair.tokens[:-1] for row in pairs for pair in row]  # nothing follows last tokens

    @staticmethod
    def _packed(rows: Sequence[IntArray]) -> float:
        return float(len(pack(rows).tokens)) if rows else 0.0

    # Gradients over LoRA

    def _side(self, examples: Sequence[Example], episode: Episode) -> float:
        """Count one pass over examples' prompts and label words, or an encoder's texts."""
        if not examples:
            return 0.0
        if self.encoder:
            return self._texts(examples, episode, {})
        template = episode.labels.template
        answers = [template.answer(word) for word in episode.labels.words]
        return self._pairs([template.render(e.fields) for e in examples], answers)

    def _share(self, params: Mapping[str, Any]) -> float:
        """Return the share of the layers that a learner adapts."""
        top = params.get("top_layers")
        return 1.0 if top is None else min(1.0, int(top) / self.layers)

    def _adapted(
        self, episode: Episode, method: str, params: Mapping[str, Any], steps: int
    ) -> Work:
        """Adapt to the support set, and answer the queries; what lies below runs once."""
        support, query = self._side(episode.support, episode), self._side(episode.query, episode)
        part = self._share(params)
        if method == "anil":  # the head alone moves
            return _forward(support + query)
        return _trained(support * part) * steps + _forward(support * (1 - part) + query)

    def _outer(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work:
        """One task of an outer step."""
        support, query = self._side(episode.support, episode), self._side(episode.query, episode)
        part, steps = self._share(params), int(params["inner_steps"])
        below = _forward((support + query) * (1 - part))
        s, q = support * part, query * part
        if method == "anil":
            return _trained(s + q) + below + _forward(_WATCH * (s + 2 * q))
        watched = (_trained(s) * steps + _forward(s + 2 * q)) * _WATCH
        if method == "reptile":
            return _trained(s) * -(-steps // 2) + _trained(q) * (steps // 2) + below + watched
        found = _trained(s) * steps + _trained(q) + below + watched
        if method == "imaml":
            return found + _trained(s, _CURVED) * int(params["solver_steps"])
        if method == "maml++":  # the query loss after every step; first order for a while
            late = 1 - float(params["first_order"])
            return found + _trained(q) * (steps - 1) + _trained(s, _CURVED) * (steps * late)
        if method in ("maml", "meta-sgd", "protomaml"):
            return found + _trained(s, _CURVED) * steps
        return found

    # Embeddings

    def _texts(
        self, examples: Sequence[Example], episode: Episode, params: Mapping[str, Any]
    ) -> float:
        rows = encode(self.tokenizer, [self._shown(e, episode, params) for e in examples])
        return float(sum(map(len, rows))) if self.encoder else self._packed(rows)

    @staticmethod
    def _shown(example: Example, episode: Episode, params: Mapping[str, Any]) -> str:
        if params.get("prompted"):
            return episode.labels.template.render(example.fields)
        return str(params.get("instruction") or "") + "\n".join(example.fields.values())

    def _depth(self, params: Mapping[str, Any]) -> float:
        """Return the share of the layers that an embedding needs; see `FeatureParams`."""
        layer = params.get("layer")
        if layer is None:
            return 1.0 if self.encoder else round(2 * self.layers / 3) / self.layers
        return 1.0 if layer < 0 else min(1.0, int(layer) / self.layers)

    def _embedded(
        self, examples: Sequence[Example], episode: Episode, params: Mapping[str, Any]
    ) -> float:
        """Count texts that no learner before has embedded in the same way, as on a CPU."""
        from icl.models.embedder import made_up

        way = tuple(params.get(name) for name in ("layer", "pooling", "instruction", "prompted"))
        known = self.seen.setdefault(tuple(value or None for value in way), set())
        new = {self._shown(e, episode, params): e for e in examples}
        fresh = [example for text, example in new.items() if text not in known]
        known.update(new)
        rows = encode(self.tokenizer, [self._shown(e, episode, params) for e in fresh])
        return float(sum(made_up(len(row)) for row in rows)) * self._depth(params)

    def _by_vectors(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work:
        """Embed once, or with an adapter each step anew, twice over where a fold is held out."""
        if method != "lora-head" and params.get("tune") != "lora":
            return _forward(self._embedded((*episode.support, *episode.query), episode, params))
        support = self._texts(episode.support, episode, params) * self._depth(params)
        query = self._texts(episode.query, episode, params) * self._depth(params)
        if method != "lora-head":
            return _forward(support + query)
        fits = 1 if len(episode.support) <= len(episode.labels) else 2
        return _trained(support) * (fits * int(params["steps"])) + _forward(query)

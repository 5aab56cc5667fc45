"""How many tokens an episode puts through a model, counted from its texts without the model.

Label scores are counted exactly as they are computed, each distinct token of an episode once
(`icl.models.packed.trie`). What depends on the model's own answers (early stopping, written probes)
is taken at its most, or left out, as each function says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl.episodes import Episode
from icl.learners.prompting.params import InContextParams
from icl.models.packed.trie import IntArray, pack
from icl.models.tokens import encode, encode_pairs
from icl.prompting.calibration import content_free, domain_inputs
from icl.prompting.channel import split
from icl.prompting.order import BY_ENTROPY
from icl.tasks.task import Example, Labels
from icl.tools.amounts import Work, forward, trained
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WITHOUT_MODEL = ("majority", "stratified", "tfidf")
PROMPTING = ("zero-shot", "in-context")
OVER_LORA = (
    "lora", "maml", "fomaml", "reptile", "anil", "meta-sgd", "maml++", "imaml", "protomaml",
    "multitask-lora",
)  # fmt: skip
_CURVED = 4.0  # the same in a second derivative's, beside the forward pass that is counted
_WATCH = 0.2  # every fifth step of meta-training looks at losses before and after adaptation


def _asked(method: str, params: Mapping[str, Any]) -> InContextParams:
    """Return how a method prompts."""
    if method == "metaicl":
        return InContextParams(scoring=params["scoring"], normalise=params["normalise"])
    return InContextParams(**params)


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
    """

    tokenizer: PreTrainedTokenizerBase
    layers: int = 1
    encoder: bool = False

    def judged(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work | None:
        """Return the work of one learner on one episode; None for a method that is not known."""
        if method in WITHOUT_MODEL:
            return Work()
        if method in PROMPTING or method == "metaicl":
            asked = _asked(method, params)
            shown = () if method == "zero-shot" else self._demonstrations(episode, asked)
            return self._prompted(episode, shown, asked)
        if method in OVER_LORA:
            steps = params.get("adapt_steps")
            steps = params.get("inner_steps", params.get("steps")) if steps is None else steps
            return self._adapted(episode, method, params, int(steps or 0))
        if method == "setfit":
            support = self._texts(episode.support, episode, params)
            pairs = 4 * int(params["pairs"])  # two pairs of two texts for each example and round
            tuned = trained(pairs * support) * float(len(episode.support) > 0)
            return tuned + forward(support + self._texts(episode.query, episode, params))
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
        known: set[str] = set()
        for episode in episodes:
            if method == "metaicl":
                one: Work | None = trained(
                    self._prompted(
                        episode, episode.support, _asked(method, params), rows=True
                    ).tokens
                )
            elif method in OVER_LORA:
                one = self._outer(episode, method, params)
            elif "layer" not in params:
                return None
            elif params.get("tune") == "lora":
                texts = self._texts((*episode.support, *episode.query), episode, params)
                one = trained(texts * self._depth(params))
            else:  # frozen texts are embedded once: only those of new episodes are new
                both = (*episode.support, *episode.query)
                one = forward(self._embedded(both, episode, params, known))
            total += one or Work()
        return total * (training.steps * training.meta_batch / len(episodes))

    # Prompting

    def _demonstrations(
        self, episode: Episode, params: InContextParams
    ) -> tuple[Example, ...] | None:
        """Return what stands in every prompt; None where each query has its own."""
        if params.choice in ("knn", "bm25", "mmr", "dpp"):
            return None
        return episode.support[: params.demonstrations]

    def _prompted(
        self,
        episode: Episode,
        shown: Sequence[Example] | None,
        params: InContextParams,
        *,
        rows: bool = False,
    ) -> Work:
        """Count prompts; `rows` for one target a query, the right one, as in meta-training."""
        queries = [q.fields for q in episode.query]
        if shown is None:  # some examples for each query: here the same for those of one label
            before = [_some(episode, query, params.demonstrations or 0) for query in episode.query]
        else:
            before = [list(shown)] * len(queries)
        free: list[Mapping[str, str]] = []
        if params.calibration == "contextual" and queries:
            free = list(content_free(queries[0]))
        elif params.calibration == "domain" and episode.support:
            free = list(domain_inputs(episode.support, params.seed))
        contexts = before if shown is None else before[:1]
        tokens = 0.0
        for name in params.names:
            labels = params.worded(episode.labels, name)
            asked = list(zip(before, queries, strict=True))
            tokens += self._scored(labels, asked, params, rows=rows)
            if free:
                tokens += self._scored(labels, [(s, f) for s in contexts for f in free], params)
            if params.order in BY_ENTROPY and shown:
                probes = [queries[i % len(queries)] for i in range(params.probe_count)]
                one = self._scored(labels, [(shown, probe) for probe in probes], params)
                tokens += params.candidates * one
        tokens *= params.ensemble_orders
        if shown is None and params.choice != "bm25":
            tokens += self._embedded((*episode.support, *episode.query), episode, {})
        return forward(tokens)

    def _scored(
        self,
        labels: Labels,
        asked: Sequence[tuple[Sequence[Example], Mapping[str, str]]],
        params: InContextParams,
        *,
        rows: bool = False,
    ) -> float:
        """Count the distinct tokens of demonstrations, inputs and answers, scored or written."""
        words = dict(zip(labels.names, labels.words, strict=True))
        if not labels.names:
            chain = params.chain(self.tokenizer, labels.template)
            prompts = [chain.prompt(shown, words, fields) for shown, fields in asked]
            samples = params.samples * params.max_new_tokens
            return self._packed(encode(self.tokenizer, prompts)) + samples * len(prompts)
        before = [[(e.fields, words[e.label]) for e in shown] for shown, _ in asked]
        if params.scoring == "channel":
            turned = split(labels.template)
            groups: dict[str, list[str]] = {}
            for pairs, (_, fields) in zip(before, asked, strict=True):
                for word in labels.words:
                    groups.setdefault(turned.prompt(pairs, word), []).append(turned.input(fields))
            rows_of = [self._rows([prompt], inputs) for prompt, inputs in groups.items()]
            return self._packed([row for rows in rows_of for row in rows])
        form = params.format(self.tokenizer, labels.template)
        prompts = [form.prompt(s, f) for s, (_, f) in zip(before, asked, strict=True)]
        answers = [form.answer(word) for word in labels.words]
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
            return forward(support + query)
        return trained(support * part) * steps + forward(support * (1 - part) + query)

    def _outer(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work:
        """One task of an outer step."""
        support, query = self._side(episode.support, episode), self._side(episode.query, episode)
        part, steps = self._share(params), int(params["inner_steps"])
        below = forward((support + query) * (1 - part))
        s, q = support * part, query * part
        if method in ("multitask-lora", "anil"):  # one pass over all examples
            looks = forward(_WATCH * (s + 2 * q)) if method == "anil" else Work()
            return trained(s + q) + below + looks
        watched = (trained(s) * steps + forward(s + 2 * q)) * _WATCH
        if method == "reptile":
            return trained(s) * -(-steps // 2) + trained(q) * (steps // 2) + below + watched
        found = trained(s) * steps + trained(q) + below + watched
        if method == "imaml":
            return found + trained(s, _CURVED) * int(params["solver_steps"])
        if method == "maml++":  # for a while the query loss after every step, and first order
            early, late = float(params["anneal"]), 1 - float(params["first_order"])
            return found + trained(q) * ((steps - 1) * early) + trained(s, _CURVED) * (steps * late)
        if method in ("maml", "meta-sgd", "protomaml"):
            return found + trained(s, _CURVED) * steps
        return found

    # Embeddings

    def _texts(
        self, examples: Sequence[Example], episode: Episode, params: Mapping[str, Any]
    ) -> float:
        texts = [self._shown(e, episode, params) for e in examples]
        rows = encode(self.tokenizer, texts, closed=True)
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
        self,
        examples: Sequence[Example],
        episode: Episode,
        params: Mapping[str, Any],
        known: set[str] | None = None,
    ) -> float:
        """Count distinct texts, as on a CPU, but for those that `known` has; add them to it."""
        from icl.models.embedding.batches import made_up

        known = set() if known is None else known
        shown = dict.fromkeys(self._shown(e, episode, params) for e in examples)
        texts = [text for text in shown if text not in known]
        known.update(texts)
        rows = encode(self.tokenizer, texts, closed=True)
        return float(sum(made_up(len(row)) for row in rows)) * self._depth(params)

    def _by_vectors(self, episode: Episode, method: str, params: Mapping[str, Any]) -> Work:
        """Embed once, or with an adapter each step anew, twice over where a fold is held out."""
        if method != "lora-head" and params.get("tune") != "lora":
            return forward(self._embedded((*episode.support, *episode.query), episode, params))
        support = self._texts(episode.support, episode, params) * self._depth(params)
        query = self._texts(episode.query, episode, params) * self._depth(params)
        if method != "lora-head":
            return forward(support + query)
        fits = 1 if len(episode.support) <= len(episode.labels) else 2
        return trained(support) * (fits * int(params["steps"])) + forward(query)

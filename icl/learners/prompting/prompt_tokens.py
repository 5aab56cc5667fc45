"""How many tokens prompts put through a model: the work of methods that only ask.

What depends on the model's own answers is taken at its most, or left out: written answers are as
long as they may be, and probes of the entropies are queries instead of what the model writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from icl.episodes.episode import Episode
from icl.learners.prompting.params import InContextParams
from icl.models.context import joined
from icl.models.tokens import encode
from icl.prompting.calibration import content_free, domain_inputs
from icl.prompting.channel import split
from icl.prompting.choice import BY_QUERY, EMBEDDED
from icl.prompting.order import BY_ENTROPY
from icl.tasks.task import Example, Labels
from icl.tools.amounts import Work, forward

if TYPE_CHECKING:
    from icl.learners.work import TokenCounter

Asked = Sequence[tuple[Sequence[Example], Mapping[str, str]]]  # demonstrations, and a query


def prompted(
    counter: TokenCounter, support: Sequence[Example], episode: Episode, params: InContextParams
) -> Work:
    """Count the prompts of an episode's queries, and all that is asked beside them."""
    queries = [q.fields for q in episode.query]
    own = params.choice in BY_QUERY  # each query has demonstrations of its own
    shown = support[: params.demonstrations]
    before = [
        _nearest(support, query, params.demonstrations or 0) if own else shown
        for query in episode.query
    ]
    free: list[Mapping[str, str]] = []
    if params.calibration == "contextual" and queries:
        free = list(content_free(queries[0]))
    elif params.calibration == "domain" and support:
        free = list(domain_inputs(support, params.seed))
    asked = list(zip(before, queries, strict=True))
    tokens = 0.0
    for name in params.names:
        labels = params.worded(episode.labels, name)
        tokens += _scored(counter, labels, asked, params)
        if free:
            contexts = before if own else before[:1]
            tokens += _scored(counter, labels, [(s, f) for s in contexts for f in free], params)
        if params.order in BY_ENTROPY and shown:
            probes = [(shown, queries[i % len(queries)]) for i in range(params.probe_count)]
            tokens += params.candidates * _scored(counter, labels, probes, params)
    tokens *= params.ensemble_orders
    if params.choice in EMBEDDED:
        tokens += counter.embedded(joined(e.fields) for e in (*support, *episode.query))
    return forward(tokens)


def right_answers(counter: TokenCounter, episode: Episode, params: InContextParams) -> float:
    """Count one target a query, the right one, after all demonstrations, as in meta-training."""
    asked = [(episode.support, query.fields) for query in episode.query]
    labels = params.worded(episode.labels, "task")
    return _scored(counter, labels, asked, params, answers=1)


def _nearest(support: Sequence[Example], query: Example, count: int) -> list[Example]:
    """Return so many examples in the support set's order, those of the query's label first."""
    first = sorted(range(len(support)), key=lambda i: support[i].label != query.label)
    return [support[i] for i in sorted(first[:count])]


def _scored(
    counter: TokenCounter,
    labels: Labels,
    asked: Asked,
    params: InContextParams,
    answers: int | None = None,
) -> float:
    """Count the distinct tokens of demonstrations, inputs and answers, scored or written."""
    words = dict(zip(labels.names, labels.words, strict=True))
    if not labels.names:
        chain = params.chain(counter.tokenizer, labels.template)
        prompts = [chain.prompt(shown, words, fields) for shown, fields in asked]
        samples = params.samples * params.max_new_tokens
        return counter.packed(encode(counter.tokenizer, prompts)) + samples * len(prompts)
    before = [[(e.fields, words[e.label]) for e in shown] for shown, _ in asked]
    if params.scoring == "channel":
        turned = split(labels.template)
        groups: dict[str, list[str]] = {}
        for pairs, (_, fields) in zip(before, asked, strict=True):
            for word in labels.words:
                groups.setdefault(turned.prompt(pairs, word), []).append(turned.input(fields))
        rows_of = [counter.rows([prompt], inputs) for prompt, inputs in groups.items()]
        return counter.packed([row for rows in rows_of for row in rows])
    form = params.format(counter.tokenizer, labels.template)
    prompts = [form.prompt(s, f) for s, (_, f) in zip(before, asked, strict=True)]
    return counter.pairs(prompts, [form.answer(word) for word in labels.words][:answers])

"""How many tokens an episode's prompts put through a model, a pass over each side of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.episodes.episode import Episode
from icl.learners.gradient.base import LoraParams
from icl.models.context import joined
from icl.tasks.task import Example, Labels
from icl.tools.amounts import Work, forward, kept, trained

if TYPE_CHECKING:
    from icl.learners.work import TokenCounter


@dataclass(frozen=True, slots=True)
class Passes:
    """One pass over an episode, in tokens.

    Attributes:
        support, query: through the adapted layers.
        below: both through the frozen layers below, which run once.
    """

    support: float
    query: float
    below: Work

    def adapted(self, steps: int) -> Work:
        """Return the work of so many steps on the support set, then answering the queries."""
        return trained(self.support) * steps + forward(self.query) + self.below


def passes(counter: TokenCounter, episode: Episode, params: LoraParams) -> Passes:
    """Count one pass over an episode for an adapter."""
    support, query = (_side(counter, s, episode.labels) for s in (episode.support, episode.query))
    part = counter.share(params.top_layers)
    below = (support + query) * (1 - part)
    # an encoder's states there are kept for each text, see `icl.models.text_trunks`
    return Passes(support * part, query * part, (kept if counter.encoder else forward)(below))


def _side(counter: TokenCounter, examples: Sequence[Example], labels: Labels) -> float:
    """Count one pass over examples' prompts and label words, or an encoder's texts."""
    if not examples:
        return 0.0
    if counter.encoder:
        return counter.texts([joined(e.fields) for e in examples])
    template = labels.template
    answers = [template.answer(word) for word in labels.words]
    return counter.pairs([template.render(e.fields) for e in examples], answers)

"""In-context learning: the support set is shown in the prompt, and labels are scored after it.

Brown et al. 2020 (arXiv 2005.14165). The score of a label is the log-probability of its word after
the prompt, summed over the word's tokens, exact (see `icl.models.scorer`), and normalised over the
episode's labels.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from icl.errors import IclError
from icl.learners.base import Learner, Params, Predictor
from icl.models.scorer import make_plan, score
from icl.models.tokens import encode
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class _PromptPredictor(Predictor):
    def __init__(self, backbone: Backbone, support: Sequence[Example], labels: Labels) -> None:
        self._backbone = backbone
        self._support = tuple(support)
        self._labels = labels

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        template = self._labels.template
        answers = [template.answer(word) for word in self._labels.words]
        room = self._backbone.context_length - self._longest_answer(answers)
        prompts = [fit_prompt(self._backbone, self._support, self._labels, t, room) for t in texts]
        plan = make_plan(self._backbone, prompts, answers)
        with torch.no_grad():
            scores = score(self._backbone, plan, relative=True)
        return scores.log_softmax(1).cpu()

    def _longest_answer(self, answers: Sequence[str]) -> int:
        return max(len(row) for row in encode(self._backbone.tokenizer, answers))


def fit_prompt(
    backbone: Backbone, support: Sequence[Example], labels: Labels, fields: Fields, room: int
) -> str:
    """Build a query's prompt with as many whole demonstrations as fit in `room` tokens.

    Demonstrations are dropped from the end, one from the most frequent label at a time, so that
    labels stay as balanced as they were. Each query's prompt depends on that query alone.

    Raises:
        IclError: not even the query alone fits.
    """
    words = dict(zip(labels.names, labels.words, strict=True))
    shown = list(support)
    while True:
        pairs = [(example.fields, words[example.label]) for example in shown]
        prompt = labels.template.prompt(pairs, fields)
        length = len(encode(backbone.tokenizer, [prompt])[0])
        if length <= room:
            break
        if not shown:
            raise IclError(
                f"A query of {length} tokens does not fit in the model's context of {room}; "
                "shorten the texts or take a model with a longer context."
            )
        counts = Counter(example.label for example in shown)
        most = max(counts.values())
        shown.pop(max(i for i, e in enumerate(shown) if counts[e.label] == most))
    if len(shown) < len(support):
        warnings.warn(
            f"Only {len(shown)} of {len(support)} demonstrations fit in {room} tokens of context.",
            stacklevel=2,
        )
    return prompt


class InContext(Learner):
    """Few-shot prompting: all support examples, in the episode's order, before each query."""

    method: ClassVar[str] = "in-context"
    predicts_words: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, params: Params) -> None:
        """Score with this backbone."""
        self._backbone = backbone

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Keep the support set as demonstrations; nothing is trained."""
        return _PromptPredictor(self._backbone, support, labels)


class ZeroShot(InContext):
    """Zero-shot prompting: the instruction and the query only; the support set is ignored."""

    method: ClassVar[str] = "zero-shot"

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Keep the label words only."""
        return _PromptPredictor(self._backbone, (), labels)

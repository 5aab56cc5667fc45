"""Exact label scores: each unique token once, logits only where a label token is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.base import Ability, Model, lacks, numbers
from icl.models.flops import spending
from icl.models.packed.ends import Ends, lay_out_ends
from icl.models.packed.layout import Layout, lay_out
from icl.models.packed.trie import PackedTrie, join
from icl.models.scoring.memo import Scored, question_key
from icl.models.scoring.waves import hidden_in_waves
from icl.models.tokens import EncodedPair, encode_pairs

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


@dataclass(frozen=True)
class ScorePlan:
    """Prompts x answers, compiled: what to run and where each answer token's score stands.

    Attributes:
        trie: the packed tokens of all prompts and answers, but for last tokens: nothing is
            predicted from those.
        at: for each scored token, the packed row that predicts it, shape (scored,).
        target: the scored tokens' ids, shape (scored,).
        owner: the flattened (prompt, answer) pair that each scored token belongs to, (scored,).
        common: whether all answers of the prompt are predicted from the same row as this token, so
            that its normaliser over the vocabulary is the same for all of them, shape (scored,).
        prompts, answers: the shape of the scores.
        tasks: packed rows of each task, where several tasks' plans were joined.
        prompt_tokens: tokens that running each (prompt, answer) alone would process.
    """

    trie: PackedTrie
    at: Tensor
    target: Tensor
    owner: Tensor
    common: Tensor
    prompts: int
    answers: int
    tasks: tuple[int, ...]
    prompt_tokens: int

    @cached_property
    def layout(self) -> Layout:
        """The trie's attention, for a pass over all its rows."""
        return lay_out(self.trie, self.at.device)

    @cached_property
    def ends(self) -> Ends | None:
        """The rows that scores are read from, where the last layer is worth cutting to them."""
        return lay_out_ends(self.trie, self.at)


def make_plan(backbone: Backbone, prompts: Sequence[str], answers: Sequence[str]) -> ScorePlan:
    """Compile the scoring of every answer after every prompt."""
    return _compile(backbone, [encode_pairs(backbone.tokenizer, prompts, answers)])


def make_pair_plan(backbone: Backbone, prompts: Sequence[str], answers: Sequence[str]) -> ScorePlan:
    """Compile the scoring of one answer after each prompt; the scores have shape (prompts, 1)."""
    pairs = [
        encode_pairs(backbone.tokenizer, [prompt], [answer])[0]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return _compile(backbone, [pairs])


def make_task_plan(
    backbone: Backbone, tasks: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> ScorePlan:
    """Compile several tasks' (prompts, answers), each of one shape, for factors with a task axis.

    The scores have shape (tasks x prompts, answers). Tasks share no rows, so each can have its own
    adapter.
    """
    pairs = [encode_pairs(backbone.tokenizer, *task) for task in tasks]
    return _compile(backbone, pairs, tasks=True)


def _compile(
    backbone: Backbone, by_task: list[list[list[EncodedPair]]], *, tasks: bool = False
) -> ScorePlan:
    """Compile tasks' pairs, a row for each prompt; tasks share nothing."""
    tries = []
    for own in by_task:
        whole = [pair.tokens for row in own for pair in row]
        tries.append(backbone.spans.pack([t[:-1] for t in whole], list(map(len, whole))))
    trie = join(tries)
    pairs = [pair for own in by_task for row in own for pair in row]
    answers = len(by_task[0][0])
    at = [path[p.answer_from - 1 :] for p, path in zip(pairs, trie.paths, strict=True)]
    target = [pair.tokens[pair.answer_from :] for pair in pairs]
    owner = np.repeat(np.arange(len(pairs)), list(map(len, target)))
    common = [np.zeros(len(tokens), dtype=bool) for tokens in target]
    for begin in range(0, len(pairs), answers):
        firsts = {int(rows[0]) for rows in at[begin : begin + answers]}
        for flags in common[begin : begin + answers]:
            flags[0] = len(firsts) == 1
    device = backbone.device
    return ScorePlan(
        trie=trie,
        at=torch.from_numpy(np.concatenate(at)).to(device),
        target=torch.from_numpy(np.concatenate(target)).to(device),
        owner=torch.from_numpy(owner).to(device),
        prompts=sum(map(len, by_task)),
        common=torch.from_numpy(np.concatenate(common)).to(device),
        answers=answers,
        tasks=tuple(len(t.tokens) for t in tries) if tasks else (),
        prompt_tokens=sum(len(pair.tokens) - 1 for pair in pairs),
    )


def label_scores(
    model: Model,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    adapter: Adapter | None = None,
    relative: bool = False,
) -> Tensor:
    """Return ``log p(answer | prompt)`` for every prompt and answer, on whatever road is exact.

    Decoders run packed (`make_plan`, `score`), in waves that memory allows (`hidden_in_waves`);
    other models have a road of their own, `Model.score`.

    Args:
        model: one that can score.
        prompts: texts up to the answer.
        answers: texts after it, leading blank included.
        adapter: LoRA factors without a task axis.
        relative: leave out what is the same for all answers of a prompt, see `score`.

    Returns:
        Float32 on the model's device, without a graph, shape (prompts, answers).

    Raises:
        IclError: an answer adds no token, or the model cannot score, or takes no adapter and is
            given one.
    """
    asked: set[Ability] = {"score"} if adapter is None else {"score", "adapt"}
    if not asked <= model.can:
        raise IclError(lacks(model, asked - model.can))
    if not prompts:
        return torch.zeros(0, len(answers), device=model.device)
    if not model.packed:
        return numbers(model, model.score(prompts, answers), (len(prompts), len(answers)))
    backbone = cast("Backbone", model)
    with torch.no_grad():
        plan = make_plan(backbone, prompts, answers)
        return score(backbone, plan, adapter=adapter, relative=relative)


def remembered_scores(
    model: Model,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    adapter: Adapter | None = None,
    relative: bool = False,
) -> Tensor:
    """Return `label_scores`, of a packed model without an adapter from its memo where it can be."""
    packed = cast("Backbone", model) if model.packed else None
    if adapter is not None or packed is None:
        return label_scores(model, prompts, answers, adapter=adapter, relative=relative)
    key, meter = question_key(list(prompts), list(answers), relative), model.meter
    found = packed.scores.recall(key, meter)
    if found is None:
        before = meter.prompt_tokens
        with spending(packed) as spent:
            found = label_scores(model, prompts, answers, relative=relative)
        scored = Scored(found, spent(), meter.prompt_tokens - before)
        packed.scores.remember(key, scored, meter)
    return found


def score(
    backbone: Backbone,
    plan: ScorePlan,
    *,
    adapter: Adapter | None = None,
    trunk: Tensor | None = None,
    start: int = 0,
    relative: bool = False,
) -> Tensor:
    """Return ``log p(answer | prompt)``, summed over the answer's tokens.

    Args:
        backbone: the model.
        plan: what `make_plan` or `make_task_plan` compiled.
        adapter: LoRA factors, with a task axis for a task plan.
        trunk, start: what enters layer `start`, see `Backbone.trunk`.
        relative: leave out normalisers that are the same for all answers of a prompt. Scores are
            then right up to a constant for each prompt, which a softmax over the answers removes,
            and one-token answers need no projection to the vocabulary.

    Returns:
        Scores in float32, shape (prompts, answers), on the model's device, with a graph where the
        adapter wants one.
    """
    backbone.meter.prompt_tokens += plan.prompt_tokens
    if trunk is None and not plan.tasks and not torch.is_grad_enabled():
        hidden = hidden_in_waves(backbone, plan.trie, adapter)
    else:
        ends = plan.ends
        hidden = backbone.hidden(
            plan.layout, adapter=adapter, tasks=plan.tasks, trunk=trunk, start=start, ends=ends
        )
        plan = plan if ends is None else replace(plan, at=ends.places(plan.at))
    tokens = _token_log_probs(backbone, hidden, plan, relative)
    flat = tokens.new_zeros(plan.prompts * plan.answers)
    return flat.index_add(0, plan.owner, tokens).reshape(plan.prompts, plan.answers)


def _token_log_probs(backbone: Backbone, hidden: Tensor, plan: ScorePlan, relative: bool) -> Tensor:
    """Return each scored token's log-probability, shape (scored,).

    Several tokens are often predicted from one row (the prompt's last), so each row's normaliser
    is computed once.
    """
    logits = backbone.token_logits(hidden.index_select(0, plan.at), plan.target)
    wanted = ~plan.common if relative else torch.ones_like(plan.common)
    if not bool(wanted.any()):
        return logits
    rows, place = torch.unique(plan.at[wanted], return_inverse=True)
    normalisers = backbone.normaliser(hidden.index_select(0, rows))
    # not masked_scatter: its backward has no right forward-mode derivative
    where = wanted.nonzero().flatten()
    return logits.index_add(0, where, normalisers.index_select(0, place), alpha=-1)

"""The log-sum-exp over a vocabulary, and its gradient, in one sweep over the vocabulary.

The gradient of ``log sum_v exp(h . w_v)`` for h is the mean of the w_v under the softmax. Both are
kept as running sums, rescaled when a greater logit comes by (Milakov & Gimelshein 2018, arXiv
1805.02867), so that no logits are kept for a backward, and each weight is read once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from icl.models.packed.products import product


class Normaliser(torch.autograd.Function):
    """Maps (hidden (n, width), weight (vocabulary, width), words at once) to shape (n,)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, at_once: int) -> Tensor:
        """Return the log-sum-exps."""
        most = hidden.new_full((len(hidden), 1), -torch.inf)
        total = hidden.new_zeros(len(hidden), 1)
        mean = torch.zeros_like(hidden)
        for words in torch.split(weight, at_once):
            logits = product(hidden, words)
            higher = torch.maximum(most, logits.amax(1, keepdim=True))
            shrink = (most - higher).exp_()
            shares = logits.sub_(higher).exp_()
            total = total.mul_(shrink).add_(shares.sum(1, keepdim=True))
            mean = mean.mul_(shrink).add_(product(shares, words.T))
            most = higher
        ctx.save_for_backward(hidden, weight, mean.div_(total))
        ctx.at_once = at_once
        return (most + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient for the hidden states; the vocabulary's weights are frozen."""
        hidden, weight, mean = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return grad[:, None] * mean, None, None
        sums = [(hidden @ words.T).logsumexp(1) for words in torch.split(weight, ctx.at_once)]
        value = torch.stack(sums).logsumexp(0)
        (found,) = torch.autograd.grad(value, hidden, grad, create_graph=True)
        return found, None, None

"""`Vocabulary`: from a model's last states to its logits over words, a slice of them at a time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from icl.models.packed import products
from icl.models.packed.blocks import at_least_float32
from icl.models.parts import text_config
from icl.models.weights.devices import at_hand

_SLICE = 2**16  # words of the vocabulary that are projected to at once
# on a CPU their weights and logits stay in the cache: 1.5 times as fast as all at once
_SLICE_ON_CPU = 2**11


class Normaliser(torch.autograd.Function):
    """The log-sum-exp over a vocabulary, and its gradient, in one sweep over the vocabulary.

    Maps (hidden (n, width), weight (vocabulary, width), words at once) to shape (n,).

    The gradient of ``log sum_v exp(h . w_v)`` for h is the mean of the w_v under the softmax. Both
    are kept as running sums, rescaled when a greater logit comes by (Milakov & Gimelshein 2018,
    arXiv 1805.02867), so that no logits are kept for a backward, and each weight is read once.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, at_once: int) -> Tensor:
        """Return the log-sum-exps."""
        most = hidden.new_full((len(hidden), 1), -torch.inf)
        total = hidden.new_zeros(len(hidden), 1)
        mean = torch.zeros_like(hidden)
        for words in torch.split(weight, at_once):
            logits = products.product(hidden, words)
            higher = torch.maximum(most, logits.amax(1, keepdim=True))
            shrink = (most - higher).exp_()
            shares = logits.sub_(higher).exp_()
            total = total.mul_(shrink).add_(shares.sum(1, keepdim=True))
            mean = mean.mul_(shrink).add_(products.product(shares, words.T))
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


class Vocabulary:
    """What a backbone makes of its last states.

    Attributes:
        model: the transformers model.
        device: where states lie.
    """

    model: Any
    device: Any

    @cached_property
    def head(self) -> Any:
        """The linear map from hidden states to the vocabulary."""
        return self.model.get_output_embeddings()

    def logits(self, hidden: Tensor) -> Tensor:
        """Project hidden states, shape (n, width), to logits in float32, shape (n, vocabulary)."""
        return self.finish(self.head(hidden).to(hidden.device))

    def normaliser(self, hidden: Tensor) -> Tensor:
        """Return the log-sum-exp over the vocabulary's logits, float32: (n, width) -> (n,).

        A slice of the vocabulary at a time, so that logits stay in the processor's cache.
        """
        with at_hand(self.head):
            return self._normaliser(hidden.to(self.head.weight.device)).to(hidden.device)

    def _normaliser(self, hidden: Tensor) -> Tensor:
        at_once = _SLICE_ON_CPU if hidden.device.type == "cpu" else _SLICE
        if self._can_differentiate(hidden):
            own: Tensor = Normaliser.apply(hidden, self.head.weight, at_once)  # type: ignore[no-untyped-call]
            return own
        wants_graph = torch.is_grad_enabled() and hidden.requires_grad
        linear = nn.functional.linear if wants_graph else products.product
        weights = torch.split(self.head.weight, at_once)
        bias = self.head.bias
        biases = [None] * len(weights) if bias is None else list(torch.split(bias, at_once))
        sums = [
            self.finish(linear(hidden, weight, shift)).logsumexp(-1)
            for weight, shift in zip(weights, biases, strict=True)
        ]
        return torch.stack(sums).logsumexp(0)

    def _can_differentiate(self, hidden: Tensor) -> bool:
        """Tell whether `Normaliser` can take logits and gradient in one sweep."""
        probe = torch.ones(1)
        return (
            torch.is_grad_enabled()
            and hidden.requires_grad
            and hidden.dtype in (torch.float32, torch.float64)
            and hidden.dtype == self.head.weight.dtype
            and self.head.bias is None
            and bool(self.finish(probe) == probe)
        )

    def token_logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return one token's logit for each hidden state, float32: (n, width), (n,) -> (n,)."""
        logits = (hidden * self.word_rows(tokens)).sum(-1)
        bias = self.word_bias(tokens)
        return self.finish(logits if bias is None else logits + bias)

    def word_bias(self, tokens: Tensor) -> Tensor | None:
        """Return the head's biases of some tokens, shape (n,); None where it has none."""
        if self.head.bias is None:
            return None
        with at_hand(self.head):
            bias: Tensor = self.head.bias
            return bias[tokens.to(bias.device)].to(self.device)

    def word_rows(self, tokens: Tensor) -> Tensor:
        """Return the head's rows of some tokens: (n,) -> (n, width)."""
        with at_hand(self.head):
            weight: Tensor = self.head.weight
            return weight[tokens.to(weight.device)].to(self.device)

    def finish(self, logits: Tensor) -> Tensor:
        """Apply what some architectures do to logits after the projection."""
        config, logits = text_config(self.model), at_least_float32(logits)
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
        scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite
        return logits if scale == 1.0 else logits * scale

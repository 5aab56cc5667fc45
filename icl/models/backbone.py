"""`Backbone`: a causal language model that runs packed tries, adapters as values, and trunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icl.errors import IclError
from icl.models import norms, products
from icl.models.budget import free_bytes
from icl.models.ends import Ends, run_for_ends
from icl.models.identity import Origin, memory_identity, memory_mark
from icl.models.keyvalues import KeyValues
from icl.models.layout import Layout
from icl.models.lora import Adapter, adapted_output
from icl.models.normaliser import Normaliser
from icl.models.places import at_hand, first_device, is_spread
from icl.models.precision import at_least_float32
from icl.models.spread import following
from icl.models.state import ForwardState, activate, active
from icl.models.trunks import TrunkCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_SLICE = 2**16  # words of the vocabulary that are projected to at once
_SLICE_ON_CPU = (
    2**11
)  # their weights and logits stay in the cache: 1.5 times as fast as all at once

# how a model that cannot be packed scores (prompts, answers)
Road = Callable[["Backbone", Sequence[str], Sequence[str]], Tensor]


@dataclass(slots=True)
class Meter:
    """Running totals of what a backbone was asked to do; a cost is a difference of two readings.

    Attributes:
        prompt_tokens: tokens that running each prompt alone would process.
        computed_tokens: packed rows that went through the model, counted in whole forward passes:
            a pass over 6 of 18 layers counts a third.
        scored: for a model on a server, how many label scores were got in which way.
    """

    prompt_tokens: int = 0
    computed_tokens: float = 0.0
    scored: Counter[str] = field(default_factory=Counter)


class Backbone:
    """A causal language model under the hand of icl.

    The model's parameters are frozen and never change: adapters are passed along as values.

    Attributes:
        model: the transformers model, in eval mode.
        tokenizer: its tokenizer.
        name: where it came from.
        meter: running totals of tokens.
        own_road: how label scores are computed where the model cannot run packed, else None.
        memory_budget: bytes that one packed pass may take; None for half of what is free.
        trunks: states under the lowest adapted layer, kept for prompts that come again.
    """

    memory_budget: int | None = None
    origin: Origin | None = None
    _mark: str = ""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        own_road: Road | None = None,
    ) -> None:
        self.model = model.requires_grad_(False)
        self.model.train(False)
        self.tokenizer = tokenizer
        self.name = name
        self.meter = Meter()
        self.own_road = own_road
        # a GPU runs all prompts of a trunk at once in less time than it takes to look them up
        self.trunks = TrunkCache(0 if self.device.type == "cuda" else 2**30)
        if own_road is not None:
            return  # nothing to hook into: only packed passes take adapters and trunks
        spread = is_spread(model)
        for index, layer in enumerate(self.layers):
            layer.forward = _staged(layer.forward, index, index == len(self.layers) - 1)
            if spread:
                layer.forward = following(layer.forward, first_device(layer) or self.device)
        for module_name, module in model.named_modules():
            if is_linear(module):
                module.register_forward_hook(_adapted(module_name))
            norms.hook(module)
            products.hook(module)

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies, and what icl keeps beside the model."""
        device = first_device(self.model)
        assert device is not None
        return device

    def budget(self) -> int:
        """Return how many bytes one packed pass may take, on the fullest of its devices."""
        if self.memory_budget is not None:
            return self.memory_budget
        places = {p.device for p in self.model.parameters() if p.device.type != "meta"}
        return min(free_bytes(device) for device in places)

    @cached_property
    def head(self) -> Any:
        """The linear map from hidden states to the vocabulary."""
        model: Any = self.model
        return model.get_output_embeddings()

    @cached_property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, lowest first."""
        count = self.model.config.num_hidden_layers
        for module in self.model.base_model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise NotImplementedError(f"{type(self.model).__name__} has no list of {count} layers")

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """The module path of each decoder layer, lowest first."""
        names = {id(module): name for name, module in self.model.named_modules()}
        return tuple(names[id(layer)] for layer in self.layers)

    @cached_property
    def context_length(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 2**31))

    @cached_property
    def identity(self) -> str:
        """A hash of all that decides the model's numbers: 16 hexadecimal digits.

        Of a model that was loaded by name: its files' bytes, dtype and bits. Of any other, of one
        that was changed in memory since, and where the files have changed since: the content of
        model and tokenizer as they lie in memory. See `icl.models.identity`.
        """
        if self.origin is not None and self._mark == memory_mark(self.model, self.tokenizer):
            told = self.origin.identity()
            if told is not None:
                return told
        return memory_identity(self.model, self.tokenizer)

    def comes_from(self, origin: Origin | None) -> None:
        """Note the files that the model was loaded from just now."""
        self.origin, self._mark = origin, memory_mark(self.model, self.tokenizer)

    def hidden(
        self,
        layout: Layout,
        *,
        adapter: Adapter | None = None,
        tasks: Sequence[int] = (),
        trunk: Tensor | None = None,
        start: int = 0,
        memory: KeyValues | None = None,
        ends: Ends | None = None,
    ) -> Tensor:
        """Run a packed trie and return the last hidden states, shape (rows, width).

        Args:
            layout: the packed trie.
            adapter: LoRA factors, or None.
            tasks: rows of each task, for an adapter with a task axis.
            trunk: what `trunk` returned for this layout; layers below `start` are then skipped.
            start: the layer that the trunk enters.
            memory: keys and values of earlier passes, which the layout's blocks may name; this
                pass's are added.
            ends: the rows whose states are wanted; the result then has those alone.
        """
        state = ForwardState(
            layout,
            adapter,
            tuple(tasks),
            start=0 if trunk is None else start,
            trunk=trunk,
            memory=memory,
            ends=ends,
        )
        return self._run(state)

    def trunk(self, layout: Layout, below: int) -> Tensor:
        """Return the hidden states that enter layer `below`, shape (1, rows, width), no graph."""
        state = ForwardState(layout, stop=below)
        with torch.no_grad():
            self._run(state)
        return state.stopped[0].to(self.device)

    def layer_states(self, layout: Layout, layer: int) -> Tensor:
        """Return the states after `layer` decoder layers, shape (rows, width); -1: normed last."""
        if layer in (-1, len(self.layers)):
            with torch.no_grad():
                return self.hidden(layout)
        return self.trunk(layout, layer)[0]

    def _run(self, state: ForwardState) -> Tensor:
        if self.own_road is not None:
            raise IclError(
                f"The model {self.name!r} ({type(self.model).__name__}) cannot be run packed, so it"
                " can only be prompted; take a decoder with standard attention for other methods."
            )
        layout = state.layout
        first, last = state.start, len(self.layers) if state.stop is None else state.stop
        self.meter.computed_tokens += layout.rows * (last - first) / len(self.layers)
        with activate(state):
            out = self.model.base_model(
                input_ids=layout.tokens, position_ids=layout.positions, use_cache=False
            )
        hidden: Tensor = out.last_hidden_state[0].to(self.device)
        return hidden if state.ends is None else hidden.index_select(0, state.ends.rows)

    def logits(self, hidden: Tensor) -> Tensor:
        """Project hidden states, shape (n, width), to logits in float32, shape (n, vocabulary)."""
        return self._finish(self.head(hidden).to(hidden.device))

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
            self._finish(linear(hidden, weight, shift)).logsumexp(-1)
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
            and bool(self._finish(probe) == probe)
        )

    def token_logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return one token's logit for each hidden state, float32: (n, width), (n,) -> (n,)."""
        logits = (hidden * self.word_rows(tokens)).sum(-1)
        if self.head.bias is not None:
            with at_hand(self.head):
                bias = self.head.bias
                logits = logits + bias[tokens.to(bias.device)].to(logits.device)
        return self._finish(logits)

    def word_rows(self, tokens: Tensor) -> Tensor:
        """Return the head's rows of some tokens: (n,) -> (n, width)."""
        with at_hand(self.head):
            weight: Tensor = self.head.weight
            return weight[tokens.to(weight.device)].to(self.device)

    def _finish(self, logits: Tensor) -> Tensor:
        """Apply what some architectures do to logits after the projection."""
        config, logits = self.model.config, at_least_float32(logits)
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
        scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite
        return logits if scale == 1.0 else logits * scale


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear map that LoRA can adapt."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _staged(forward: Callable[..., Any], index: int, is_last: bool) -> Callable[..., Any]:
    """Wrap a decoder layer so that the active state may skip it, feed it a trunk, or cut rows."""

    def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        state = active()
        if state is None:
            return forward(hidden_states, *args, **kwargs)
        if state.stop is not None and index >= state.stop:
            if index == state.stop:
                state.stopped.append(hidden_states)
            return hidden_states
        if index < state.start:
            return hidden_states
        if index == state.start and state.trunk is not None:
            hidden_states = state.trunk
        if is_last and state.ends is not None:
            return run_for_ends(forward, state, hidden_states, args, kwargs)
        return forward(hidden_states, *args, **kwargs)

    return run


def _adapted(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    """Make a forward hook that adds the active adapter's part to a linear map's output."""

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        state = active()
        if state is None or state.adapter is None:
            return None
        return adapted_output(state.adapter, name, module, args[0], output, state.tasks)

    return hook

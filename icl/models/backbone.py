"""`Backbone`: a causal language model that runs packed tries, adapters as values, and trunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icl.errors import IclError
from icl.models.adapters.lora import Adapter, adapted_output, is_linear
from icl.models.base import DECODER, Model
from icl.models.loading.identity import Origin, memory_identity, memory_mark
from icl.models.memory import free_bytes
from icl.models.packed import norms, products
from icl.models.packed.ends import Ends
from icl.models.packed.keyvalues import KeyValues
from icl.models.packed.last_layer import run_for_ends
from icl.models.packed.layout import Layout, lay_out
from icl.models.packed.rope import Spans
from icl.models.packed.state import ForwardState, activate, active
from icl.models.packed.trie import IntArray
from icl.models.packed.trunks import TrunkCache
from icl.models.packed.vocabulary import Vocabulary
from icl.models.parts import depth, layer_list, stream, text_config, text_part
from icl.models.scoring.memo import ScoreMemo
from icl.models.weights.devices import devices, first_device
from icl.models.weights.spread import following

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone(Vocabulary, Model):
    """A causal language model under the hand of icl.

    The model's parameters are frozen and never change: adapters are passed along as values.

    Attributes:
        model: the transformers model, in eval mode.
        tokenizer: its tokenizer.
        name: where it came from.
        meter: running totals of tokens.
        spans: what its rotary positions make of a sequence's length.
        staged: whether its layers can be entered and left, so that few of them run.
        memory_budget: bytes that one packed pass may take; None for half of what is free.
        trunks: states under the lowest adapted layer, kept for prompts that come again.
        scores: of labels, kept for calls that come again.
    """

    can = DECODER
    kind = "a causal language model"
    packed = True
    memory_budget: int | None = None
    origin: Origin | None = None
    _mark: str = ""
    staged: bool = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
    ) -> None:
        self.model = model.requires_grad_(False)
        self.model.train(False)
        self.tokenizer = tokenizer
        self.name = name
        self.spans = Spans(model)
        # a GPU runs all prompts of a trunk at once in less time than it takes to look them up
        self.trunks = TrunkCache(0 if self.device.type == "cuda" else 2**30)
        self.scores = ScoreMemo()
        if "adapt" not in self.can:
            return  # nothing to hook into
        spread = len(devices(model)) > 1
        for index, layer in enumerate(self.layers if self.staged else ()):
            layer.forward = _staged(layer.forward, index, index == self.depth - 1)
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

    def forget(self) -> None:
        """Drop the trunks that are kept."""
        self.trunks.clear()

    def share(self, processes: int) -> None:
        """Leave the other processes of this machine their part of the memory."""
        self.memory_budget = self.budget() // processes

    def budget(self) -> int:
        """Return how many bytes one packed pass may take, on the fullest of its devices."""
        if self.memory_budget is not None:
            return self.memory_budget
        return min(map(free_bytes, devices(self.model)))

    @cached_property
    def text(self) -> Any:
        """The part that maps tokens to states; of a multimodal model its text part."""
        return text_part(self.model)

    @cached_property
    def depth(self) -> int:
        """How many layers there are."""
        return depth(self.model)

    @cached_property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, lowest first."""
        found = layer_list(self.model)
        if found is None:
            raise IclError(
                f"The model {self.name!r} ({type(self.model).__name__}) keeps its {self.depth}"
                " layers in no list, so that none can be entered, left, or chosen by `top_layers`."
            )
        return found

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """The module path of each decoder layer, lowest first."""
        names = {id(module): name for name, module in self.model.named_modules()}
        return tuple(names[id(layer)] for layer in self.layers)

    @cached_property
    def blocks(self) -> dict[str, nn.Module]:
        """What adapters may touch, by module path: the layers, or all where they are in no list."""
        if layer_list(self.model) is not None:
            own = zip(self.layer_names, self.layers, strict=True)
            # Llama 3.2 Vision skips such layers where there is no image
            return {n: layer for n, layer in own if "CrossAttention" not in type(layer).__name__}
        return {name: part for name, part in self.model.named_modules() if part is self.text}

    def top(self, count: int) -> dict[str, nn.Module]:
        """Return so many of the uppermost layers by module path."""
        names = self.layer_names[max(0, self.depth - count) :]
        return {name: self.blocks[name] for name in names if name in self.blocks}

    @cached_property
    def context_length(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(getattr(text_config(self.model), "max_position_embeddings", None) or 2**31)

    @cached_property
    def identity(self) -> str:
        """A hash of all that decides the model's numbers: 16 hexadecimal digits.

        Of a model that was loaded by name: its files' bytes, dtype and bits. Of any other, of one
        that was changed in memory since, and where the files have changed since: the content of
        model and tokenizer as they lie in memory. See `icl.models.loading.identity`.
        """
        if self.origin is not None and self._mark == memory_mark(self.model, self.tokenizer):
            told = self.origin.identity()
            if told is not None:
                return told
        return memory_identity(self.model, self.tokenizer)

    def look_again(self) -> None:
        """Let the next question for its identity look at what lies in memory then."""
        vars(self).pop("identity", None)
        self.scores.clear()

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
        if not self.staged:
            trunk, start = None, 0
        state = ForwardState(
            layout,
            adapter,
            tuple(tasks),
            start=0 if trunk is None else start,
            trunk=trunk,
            memory=memory,
            ends=ends if self.staged else None,
        )
        hidden: Tensor = self._run(state).last_hidden_state[0].to(self.device)
        return hidden if ends is None else hidden.index_select(0, ends.rows)

    def trunk(self, layout: Layout, below: int) -> Tensor:
        """Return the hidden states that enter layer `below`, shape (1, rows, width), no graph."""
        if not self.staged:
            return torch.empty(1, layout.rows, 0)  # all layers run each time
        state = ForwardState(layout, stop=below)
        with torch.no_grad():
            self._run(state)
        return state.stopped[0].to(self.device)

    def layer_states(self, layout: Layout, layer: int, adapter: Adapter | None = None) -> Tensor:
        """Return the states after `layer` decoder layers, shape (rows, width); -1: normed last.

        Without an adapter there is no graph.
        """
        with torch.set_grad_enabled(adapter is not None and torch.is_grad_enabled()):
            if layer in (-1, self.depth):
                return self.hidden(layout, adapter=adapter)
            if self.staged:
                state = ForwardState(layout, adapter, stop=layer)
                self._run(state)
                return state.stopped[0][0].to(self.device)
            out = self._run(ForwardState(layout, adapter), output_hidden_states=True)
            return stream(out.hidden_states[layer])[0].to(self.device)

    def token_states(self, rows: Sequence[IntArray], layer: int = -1) -> list[Tensor]:
        """Return each text's states after `layer` layers, shape (tokens, width) each, no graph."""
        trie = self.spans.pack(rows)
        states = self.layer_states(lay_out(trie, self.device), layer)
        return [states[torch.from_numpy(path).to(self.device)] for path in trie.paths]

    def _run(self, state: ForwardState, **wanted: bool) -> Any:
        if not self.packed:
            raise IclError(
                f"The model {self.name!r}, {self.kind}, does not run packed; take a decoder with"
                " standard attention."
            )
        layout = state.layout
        first, last = state.start, self.depth if state.stop is None else state.stop
        self.meter.computed_tokens += layout.rows * (last - first) / self.depth
        with activate(state):
            return self.text(
                input_ids=layout.tokens, position_ids=layout.positions, use_cache=False, **wanted
            )


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

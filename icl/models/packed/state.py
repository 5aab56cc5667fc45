"""What a forward pass should do beside the model's own computation, passed along, never stored.

The model itself is never changed: its attention, its layers and its adapted linear maps look here
for the layout, the adapter and the cached activations of the pass under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

from icl.models.adapters.lora import Adapter
from icl.models.packed.ends import Ends
from icl.models.packed.keyvalues import KeyValues
from icl.models.packed.layout import Layout


@dataclass(slots=True)
class ForwardState:
    """One forward pass.

    Attributes:
        layout: the packed trie that runs.
        adapter: LoRA factors, or None for the base model.
        tasks: how many packed rows belong to each task, where the adapter has a task axis.
        start: the first layer to run; layers below pass their input on.
        trunk: the hidden states that enter layer `start`, shape (1, rows, width).
        memory: keys and values of earlier passes, to which this one adds its own.
        stop: the layer before which to stop, keeping its input in `stopped`.
        ends: the rows whose last states are wanted, or None for all.
        catch: whether the attention is to hand its keys and values over and end there.
        given: keys and values to attend to in place of a layer's own.
    """

    layout: Layout
    adapter: Adapter | None = None
    tasks: tuple[int, ...] = ()
    start: int = 0
    trunk: Tensor | None = None
    memory: KeyValues | None = None
    stop: int | None = None
    stopped: list[Tensor] = field(default_factory=list)
    ends: Ends | None = None
    catch: bool = False
    given: tuple[Tensor, Tensor] | None = None


_ACTIVE: ContextVar[ForwardState | None] = ContextVar("icl_forward_state", default=None)


def active() -> ForwardState | None:
    """Return the state of the forward pass under way, or None outside one."""
    return _ACTIVE.get()


@contextmanager
def activate(state: ForwardState) -> Iterator[None]:
    """Make a state the active one for the forward passes inside the block."""
    token = _ACTIVE.set(state)
    try:
        yield
    finally:
        _ACTIVE.reset(token)

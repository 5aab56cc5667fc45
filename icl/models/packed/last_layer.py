"""The last layer for the rows that are read, not for all rows.

Scores are read where a label begins: one row in forty. Above the last layer's keys and values
nothing else reaches them, so queries, feed-forward and output are computed for those rows alone,
forward and backward. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from icl.models.packed.state import ForwardState

_UNKNOWN = object()


class KeysSeen(Exception):  # noqa: N818 - no error: it ends a layer once its keys are known
    """Carries a layer's keys and values out of its attention, each (rows, groups, size)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values


def run_for_ends(
    forward: Callable[..., Any],
    state: ForwardState,
    hidden: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a decoder layer for its ends: once as far as keys and values, then for few rows.

    Args:
        forward: the layer.
        state: the pass, with `ends`.
        hidden: what enters the layer, shape (1, rows, width).
        args, kwargs: what else the model passes to it; tensors with a row's entry each are cut.

    Returns:
        What the layer gives, of which only the ends' rows mean anything: some models want as many
        as went in.
    """
    ends = state.ends
    assert ends is not None
    count = hidden.shape[1]
    few = [_cut(value, ends.rows, count) for value in args]
    named = {name: _cut(value, ends.rows, count) for name, value in kwargs.items()}
    if any(value is _UNKNOWN for value in (*few, *named.values())):
        return forward(hidden, *args, **kwargs)
    state.catch = True
    try:
        forward(hidden, *args, **kwargs)
    except KeysSeen as seen:
        state.given = (seen.keys, seen.values)
    finally:
        state.catch = False
    assert state.given is not None
    state.layout, state.tasks = ends.layout, ends.by_task(state.tasks)
    out = forward(hidden.index_select(1, ends.rows), *few, **named)
    states = out[0] if isinstance(out, tuple) else out
    whole = hidden.detach().index_copy(1, ends.rows, states)
    return (whole, *out[1:]) if isinstance(out, tuple) else whole


def _cut(value: Any, rows: Tensor, count: int) -> Any:
    """Keep some rows of what has `count` of them along its second dimension."""
    if isinstance(value, Tensor) and value.dim() > 1:
        return value.index_select(1, rows) if value.shape[1] == count else _UNKNOWN
    if isinstance(value, tuple):
        parts = tuple(_cut(part, rows, count) for part in value)
        return _UNKNOWN if any(part is _UNKNOWN for part in parts) else parts
    return value

"""Keys and values of packed rows, kept so that later tokens can look back at them."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValues:
    """A buffer a layer, filled pass by pass; row r of the first pass stays row r.

    Attributes:
        filled: rows of all finished passes.
    """

    def __init__(self, capacity: int) -> None:
        """Make room for so many rows in all."""
        self.filled = 0
        self._capacity = capacity
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a pass's keys and values, shape (rows, heads, size); return all so far."""
        if layer not in self._layers:
            self._layers[layer] = tuple(  # type: ignore[assignment]
                torch.empty(self._capacity, *new.shape[1:], dtype=new.dtype, device=new.device)
                for new in (keys, values)
            )
        end = self.filled + len(keys)
        for buffer, new in zip(self._layers[layer], (keys, values), strict=True):
            buffer[self.filled : end] = new
        kept_keys, kept_values = self._layers[layer]
        return kept_keys[:end], kept_values[:end]

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these, which move to the front in the order given."""
        for buffers in self._layers.values():
            for buffer in buffers:
                buffer[: len(rows)] = buffer.index_select(0, rows.to(buffer.device))
        self.filled = len(rows)

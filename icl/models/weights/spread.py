"""A base that no single device holds: its layers lie on several, by accelerate's ``device_map``.

accelerate's hooks move what enters a module to where it is computed, and fetch weights that lie in
main memory or on disk for as long as they are needed. What icl passes along beside the model
(layouts, trunks, ends) is copied to each layer's device here, adapters are brought to where they
add, and what comes out goes to the device of the first weight, where all else of icl's is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from icl.models.packed.state import active


def following(forward: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Wrap a decoder layer so that what a pass carries is on the layer's device."""

    def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        from accelerate.utils import send_to_device  # type: ignore[import-untyped]

        state = active()
        if state is None:
            return forward(hidden_states, *args, **kwargs)
        home = (state.layout, state.ends, state.trunk)
        state.layout = state.layout.on(device)
        state.ends = None if state.ends is None else state.ends.on(device)
        state.trunk = None if state.trunk is None else state.trunk.to(device)
        args, kwargs = send_to_device((args, kwargs), device)
        try:
            return forward(hidden_states.to(device), *args, **kwargs)
        finally:
            state.layout, state.ends, state.trunk = home

    return run

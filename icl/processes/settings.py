"""What `accelerate launch` may be told that icl does in another way, or not at all."""

from __future__ import annotations

import os
import warnings

from icl.errors import IclError

_WRAPPERS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def check_settings() -> None:
    """Raise `IclError` for a setting that cannot hold, warn of one that has no effect here."""
    for variable, name in _WRAPPERS.items():
        if os.environ.get(variable, "").lower() in {"1", "true"}:
            raise IclError(
                f"accelerate was told to use {name}, which shards what is trained, and icl trains"
                " adapters and heads alone: drop it, and set `model.device_map` or"
                " `model.quantise` for a base that does not fit."
            )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no" and os.environ.get("RANK", "0") == "0":
        warnings.warn(
            f"accelerate's mixed precision {precision!r} has no effect: set `model.dtype:"
            " bfloat16`, so that it stands with the run.",
            stacklevel=3,
        )

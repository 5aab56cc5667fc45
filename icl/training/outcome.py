"""`TrainingSummary`: what a meta-training cost and where it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from icl.tools.values import MOST, is_amount, is_text


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What meta-training cost and where it ended.

    Attributes:
        steps: outer steps.
        episodes: episodes seen.
        seconds: wall-clock time over all starts of the run.
        computed_tokens: token positions through the model forward, in whole passes.
        trained_parameters: meta-parameters.
        first_loss, last_loss: mean meta-loss over the first and last tenth of the steps.
        digest: a hash of the trained meta-parameters.
    """

    steps: int
    episodes: int
    seconds: float
    computed_tokens: int
    trained_parameters: int
    first_loss: float
    last_loss: float
    digest: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> TrainingSummary | None:
        """Return what a file holds; None where it is no summary."""
        kinds = get_type_hints(cls)
        fits = found.keys() == kinds.keys() and all(
            _fits(name, found[name], kind) for name, kind in kinds.items()
        )
        return cls(**found) if fits else None


def _fits(name: str, value: Any, kind: type) -> bool:
    if kind is str:
        return is_text(value)
    if name.endswith("loss"):  # which may be below zero
        return isinstance(value, int | float) and abs(value) < MOST
    return is_amount(value) and isinstance(value, int | float if kind is float else int)

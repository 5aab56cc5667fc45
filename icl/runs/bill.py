"""`Bill`: what a learner spends on an episode, whatever caches hold."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from icl.models.flops import counted
from icl.models.meter import Spent
from icl.runs.peak_memory import PeakMemory
from icl.runs.record import Cost

if TYPE_CHECKING:
    from icl.models.base import Model


class Bill:
    """Measures a block of work on a backbone: ``with Bill(backbone) as bill: ...``."""

    def __init__(self, backbone: Model) -> None:
        """Read this backbone's meter."""
        self._backbone = backbone
        self._meter = backbone.meter
        self._memory = PeakMemory(str(backbone.device))
        self._counted = counted(backbone)

    def __enter__(self) -> Bill:
        """Begin."""
        self._backbone.begin()
        self._prompt, self._tokens = self._meter.prompt_tokens, self._meter.computed_tokens
        self._shared = self._meter.shared
        self._memory.reset()
        self._flops = self._counted.__enter__()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self._seconds = time.perf_counter() - self._began
        self._peak = self._memory.read()
        self._counted.__exit__(kind, error, trace)

    def cost(self, trained_parameters: int) -> Cost:
        """Return what the block has cost."""
        shared: Spent = self._meter.shared - self._shared
        own, flops = self._meter.computed_tokens - self._tokens, self._flops
        if flops is not None and own > 0 and not flops.forward:
            flops = None  # another model than the backbone's has run, as that of SetFit
        return Cost(
            prompt_tokens=round(self._meter.prompt_tokens - self._prompt),
            computed_tokens=round(own + shared.tokens),
            seconds=self._seconds + shared.seconds,
            peak_memory_mb=self._peak,
            trained_parameters=trained_parameters,
            forward_flops=None if flops is None else flops.forward + round(shared.flops),
            backward_flops=None if flops is None else flops.backward,
            shared_tokens=round(shared.tokens),
            shared_seconds=shared.seconds,
        )

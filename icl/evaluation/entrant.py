"""Who takes part in a run: learners that are not made yet, and the model that all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.learners.base import Params
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Entrant:
    """A learner that takes part in a run.

    Attributes:
        name: its name in the report.
        method: its method.
        params: the method's parameters, complete with defaults.
        training: how to meta-train it first; None for methods that need no meta-training.
    """

    name: str
    method: str
    params: Params
    training: TrainingConfig | None = None


@dataclass(slots=True)
class Model:
    """The backbone of a run, loaded only when something has to be computed.

    Attributes:
        load: loads it.
        foretell: tells its identity without loading it, or None where that cannot be told.
    """

    load: Callable[[], Backbone]
    foretell: Callable[[], str | None] = lambda: None
    _backbone: Backbone | None = None

    def backbone(self) -> Backbone:
        """Return the backbone, loaded at the first call."""
        if self._backbone is None:
            self._backbone = self.load()
        return self._backbone

    def identity(self, known: str | None) -> str:
        """Return the backbone's identity.

        It is loaded unless its files tell that it is the one that was known before: a model that
        cannot be loaded is found out before anything is written.
        """
        if known is not None and self._backbone is None and self.foretell() == known:
            return known
        return self.backbone().identity

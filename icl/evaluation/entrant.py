"""Who takes part in a run: learners that are not made yet, and the model that all share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.evaluation.runfolder import RunFolder
from icl.learners.base import Params
from icl.learners.registry import trains_columns
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


def check_ways(
    entrants: Iterable[Entrant],
    training: Mapping[str, EpisodeSampler],
    episodes: Iterable[Episode],
) -> Iterator[Episode]:
    """Yield the episodes on which entrants are judged, as far as all of them can answer.

    Args:
        entrants: who takes part.
        training: by name, where meta-learners' training episodes come from.
        episodes: any number.

    Raises:
        IclError: an episode has more labels than a learner has trained columns for.
    """
    bounds = {e.name: training[e.name].ways for e in entrants
              if e.name in training and trains_columns(e.method)}  # fmt: skip
    name = min(bounds, key=bounds.__getitem__, default="")
    for episode in episodes:
        if bounds and episode.ways > bounds[name]:
            raise IclError(
                f"The learner {name!r} is meta-trained with {bounds[name]} labels a task and would"
                f" answer by chance among the {episode.ways} of {episode.task!r}; set its"
                f" `training.ways` to {episode.ways} or more."
            )
        yield episode


@dataclass(slots=True)
class Model:
    """The backbone of a run, loaded only when something has to be computed.

    Attributes:
        load: loads it.
        signature: see `icl.models.signature.model_signature`.
    """

    load: Callable[[], Backbone]
    signature: str | None
    _backbone: Backbone | None = None

    def backbone(self) -> Backbone:
        """Return the backbone, loaded at the first call."""
        if self._backbone is None:
            self._backbone = self.load()
        return self._backbone

    def identity(self, folder: RunFolder) -> str:
        """Return the backbone's identity: remembered by the folder where the signature is."""
        known = folder.read_derived("model.json")
        if self.signature is not None and known.get("signature") == self.signature:
            remembered = known.get("identity")
            if isinstance(remembered, str):
                return remembered
        return self.remember(folder)

    def remember(self, folder: RunFolder) -> str:
        """Return the identity of the backbone as it is loaded, and let the folder remember it."""
        identity = self.backbone().identity
        folder.write_json("model.json", {"signature": self.signature, "identity": identity})
        return identity

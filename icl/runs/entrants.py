"""Who takes part in a run: learners that are not made yet, and the model that all share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.learners.base import Params
from icl.learners.registry import check_model, trains_columns
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from icl.models import base


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


def suited(
    entrants: Sequence[Entrant],
    training: Mapping[str, EpisodeSampler],
    episodes: Iterable[Episode],
) -> Iterator[Episode]:
    """Yield the episodes on which entrants are judged, as far as all of them can answer.

    Args:
        entrants: who takes part.
        training: by name, where meta-learners' training episodes come from.
        episodes: any number.

    Raises:
        IclError: an entrant cannot put an episode's task before a model, as its parameters say, or
            the episode has more labels than it has trained columns for; names it and the task.
    """
    bounds = {e.name: training[e.name].ways for e in entrants
              if e.name in training and trains_columns(e.method)}  # fmt: skip
    name = min(bounds, key=bounds.__getitem__, default="")
    for episode in episodes:
        posed = episode.posed()
        if bounds and posed.ways > bounds[name]:
            raise IclError(
                f"The learner {name!r} is meta-trained with {bounds[name]} labels a task and would"
                f" answer by chance among the {posed.ways} of {episode.task!r}; set its"
                f" `training.ways` to {posed.ways} or more."
            )
        for entrant in entrants:
            try:
                entrant.params.check_task(posed.labels, posed.support)
            except IclError as error:
                raise IclError(
                    f"The learner {entrant.name!r}, on the task {episode.task!r}: {error}"
                ) from error
        yield episode


@dataclass(slots=True)
class Model:
    """The model of a run, loaded only when something has to be computed.

    Attributes:
        load: loads it.
        foretell: tells its identity without loading it, or None where that cannot be told.
        foresee: tells what it will be able to do without loading it, or None likewise.
        entrants: who will use it.
    """

    load: Callable[[], base.Model]
    foretell: Callable[[], str | None] = lambda: None
    foresee: Callable[[], base.Sketch | None] = lambda: None
    entrants: Sequence[Entrant] = ()
    _backbone: base.Model | None = None

    def backbone(self) -> base.Model:
        """Return the model, loaded at the first call.

        Raises:
            IclError: it cannot do what an entrant needs, which is told before it is loaded where
                its files say it; or it cannot be loaded.
        """
        if self._backbone is None:
            sketch = self.foresee()
            if sketch is not None:
                self._check(sketch)
            found = self.load()
            self._check(found)
            self._backbone = found
        return self._backbone

    def _check(self, model: base.Model | base.Sketch) -> None:
        for entrant in self.entrants:
            try:
                check_model(entrant.method, entrant.params, model)
            except IclError as error:
                raise IclError(f"The learner {entrant.name!r}: {error}") from error

    def identity(self, known: str | None) -> str:
        """Return the backbone's identity.

        It is loaded unless its files tell that it is the one that was known before: a model that
        cannot be loaded is found out before anything is written.
        """
        if known is not None and self._backbone is None and self.foretell() == known:
            return known
        return self.backbone().identity

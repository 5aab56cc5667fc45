"""Who takes part in a run: learners that are not made yet, each with its model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icl.episodes import Episode, EpisodeSampler
from icl.episodes.variants import is_abstract
from icl.errors import IclError
from icl.learners.base import Learner, Params
from icl.learners.registry import check_model, learner_class, make
from icl.runs.judge import cannot_write
from icl.training import TrainingConfig

if TYPE_CHECKING:
    from icl.models.base import Model, Sketch


@dataclass(slots=True, eq=False)
class Handle:
    """A model, loaded only when something has to be computed; entrants may share one.

    Attributes:
        load: loads it.
        foretell: tells its identity without loading it, or None where that cannot be told.
        foresee: tells what it will be able to do without loading it, or None likewise.
        entrants: who will use it.
    """

    load: Callable[[], Model]
    foretell: Callable[[], str | None] = lambda: None
    foresee: Callable[[], Sketch | None] = lambda: None
    entrants: Sequence[Entrant] = ()
    _backbone: Model | None = None

    def backbone(self) -> Model:
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

    def _check(self, model: Model | Sketch) -> None:
        for entrant in self.entrants:
            try:
                check_model(entrant.method, entrant.params, model)
            except IclError as error:
                raise IclError(f"The learner {entrant.name!r}: {error}") from error

    def identity(self, known: Collection[str]) -> str:
        """Return the backbone's identity.

        It is loaded unless its files tell that it is one of those that were known before: a model
        that cannot be loaded is found out before anything is written.
        """
        if known and self._backbone is None:
            told = self.foretell()
            if told is not None and told in known:
                return told
        return self.backbone().identity


@dataclass(frozen=True, slots=True)
class Entrant:
    """A learner that takes part in a run.

    Attributes:
        name: its name in the report.
        method: its method.
        params: the method's parameters, complete with defaults.
        model: what it learns on.
        training: how to meta-train it first; None for methods that need no meta-training.
        sampler: where its training episodes come from; None likewise.
        made: the learner itself, where somebody has made it in Python.
        tuned: what its row in the roster says of the values that were chosen for it, see
            `icl.runs.trials.Tuning.row`; None where they are as configured.
    """

    name: str
    method: str
    params: Params
    model: Handle
    training: TrainingConfig | None = None
    sampler: EpisodeSampler | None = None
    made: Learner | None = None
    tuned: Mapping[str, Any] | None = None

    def learner(self) -> Learner:
        """Return the learner on its model, before any meta-training."""
        if self.made is not None:
            return self.made
        return make(self.method, self.params.model_dump(), self.model.backbone())


def suited(entrants: Sequence[Entrant], episodes: Iterable[Episode]) -> Iterator[Episode]:
    """Yield the episodes on which entrants are judged, as far as all of them can answer.

    Args:
        entrants: who takes part.
        episodes: any number.

    Raises:
        IclError: an entrant cannot put an episode's task before a model, as its parameters say, or
            would say what labels are that are to mean nothing; the episode has more labels than it
            has trained columns for; or its answers are written, and the entrant cannot write. Names
            the entrant and the task.
    """
    bounds = {e.name: e.sampler.ways for e in entrants
              if e.sampler is not None and learner_class(e.method).trains_columns}  # fmt: skip
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
            _check_words(entrant, episode)
            if entrant.made is not None:
                continue
            if episode.kind.writes and not learner_class(entrant.method).writes:
                raise IclError(cannot_write(entrant.name, entrant.method, episode.task))
            try:
                entrant.params.check_task(posed.labels, posed.support)
            except IclError as error:
                raise IclError(
                    f"The learner {entrant.name!r}, on the task {episode.task!r}: {error}"
                ) from error
        yield episode


def _check_words(entrant: Entrant, episode: Episode) -> None:
    """Raise `IclError` where an entrant's words would stand for labels that are to mean nothing."""
    words = getattr(entrant.params, "words", None)
    if is_abstract(episode.setting) and (words == "name" or isinstance(words, Mapping)):
        raise IclError(
            f"The learner {entrant.name!r} sets `words`, which would stand in place of those of"
            " `variants: abstract-labels`, that mean nothing; drop one of the two."
        )

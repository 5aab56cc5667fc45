"""Who takes part in a run: learners that are not made yet, each with its model."""

from __future__ import annotations

import gc
import sys
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
        name: what it is called: a Hub id, or a directory's own name.
        label: what reports call it, where an experiment has several.
        light: whether nothing is won by releasing it: it takes no memory, or is held elsewhere.
        entrants: who will use it.
    """

    load: Callable[[], Model]
    foretell: Callable[[], str | None] = lambda: None
    foresee: Callable[[], Sketch | None] = lambda: None
    name: str = ""
    label: str = ""
    light: bool = False
    entrants: Sequence[Entrant] = ()
    _backbone: Model | None = None
    _released: str | None = None  # the identity of what was loaded, and is no longer

    def backbone(self) -> Model:
        """Return the model, loaded at the first call.

        Raises:
            IclError: it cannot do what an entrant needs, which is told before it is loaded where
                its files say it; it cannot be loaded; or it has changed since it was released.
        """
        if self._backbone is None:
            self.look_ahead()
            found = self.load()
            self._check(found)
            if self._released not in {None, found.identity}:
                raise IclError(
                    f"The model {found.name!r} has changed while the run was under way; start the"
                    " run again, which does what is left with it as it is now."
                )
            self._backbone = found
        return self._backbone

    def look_ahead(self) -> None:
        """Raise `IclError` where its files say that it cannot do what an entrant needs."""
        if self._backbone is None:
            sketch = self.foresee()
            if sketch is not None:
                self._check(sketch)

    def release(self) -> None:
        """Give its memory back where it was loaded here; it is loaded again when it is needed."""
        if self._backbone is None or self.light:
            return
        self._released, self._backbone = self._backbone.identity, None
        gc.collect()  # a model and what is hooked into it refer to each other
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check(self, model: Model | Sketch) -> None:
        for entrant in self.entrants:
            try:
                check_model(entrant.method, entrant.params, model)
            except IclError as error:
                raise IclError(f"The learner {entrant.name!r}: {error}") from error

    def foretold(self, known: Collection[str]) -> str | None:
        """Return its identity where that needs no loading now, since it was loaded before or its
        files tell that it is one of those that are known; None where it does.

        A model that cannot be loaded is so found out before anything is written.
        """
        if self._backbone is not None:
            return self._backbone.identity
        if self._released is None and known:
            told = self.foretell()
            return told if told in known else None
        return self._released


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

    @property
    def needs_model(self) -> bool:
        """Whether its method looks at a model at all."""
        if self.made is not None:
            return True  # as far as anybody can tell
        try:
            check_model(self.method, self.params, None)
        except IclError:
            return True
        return False

    def learner(self) -> Learner:
        """Return the learner on its model, before any meta-training."""
        if self.made is not None:
            return self.made
        return make(self.method, self.params.model_dump(), self.model.backbone())


def by_model(entrants: Iterable[Entrant]) -> dict[Handle, list[Entrant]]:
    """Return entrants by their models, in the order in which these first appear."""
    found: dict[Handle, list[Entrant]] = {}
    for entrant in entrants:
        found.setdefault(entrant.model, []).append(entrant)
    return found


def identities(models: Iterable[Handle], known: Collection[str] = ()) -> dict[Handle, str]:
    """Return the identities of models; those that cannot be told otherwise are loaded, in turn.

    Only the first stays loaded: no two have to fit into memory together.

    Args:
        models: in the order in which they will be worked with.
        known: identities that may be believed where a model's files tell them.

    Raises:
        IclError: one cannot be loaded, or cannot do what an entrant needs; that is asked of all
            before any is loaded.
    """
    told = {model: model.foretold(known) for model in models}
    missing = [model for model, identity in told.items() if identity is None]
    for model in missing:
        model.look_ahead()
    found = {model: identity for model, identity in told.items() if identity is not None}
    for model in reversed(missing):
        found[model] = model.backbone().identity
        if model is not missing[0]:
            model.release()
    return found


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

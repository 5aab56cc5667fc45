"""The runner: every learner on every episode, each result kept the moment it is there."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from icl.episodes import Episode, EpisodeSampler
from icl.errors import IclError
from icl.learners.base import Learner, MetaLearner
from icl.processes import ALONE, Processes
from icl.runs.entrants import Entrant, by_model, suited
from icl.runs.environment import environment
from icl.runs.folder import FINISHED, RunFolder
from icl.runs.judge import judge
from icl.runs.pace import Pace
from icl.runs.roster import Roster, Row
from icl.tools import interrupt
from icl.tools.progress import Bar, progress, told
from icl.training import TrainingConfig


class Runner:
    """Runs every entrant on every episode and keeps each result the moment it is there.

    All entrants get the same episodes; a predictor is shown the fields of the queries and nothing
    else. What the folder already holds under the same keys is not done again, so a run that was
    killed goes on where it was, and a changed configuration redoes only what it changes.

    Several processes share the episodes by their index. The main one looks at what is done, tells
    the others what is left, and writes all files but the others' records, which it brings together
    at the end. Memory does not grow with the number of episodes: they are read one by one.

    Args:
        folder: the run's folder, held by the main process (`RunFolder.locked`).
        entrants: the learners, in the report's order.
        episodes: what they are compared on; only the main process draws them.
        config: the experiment as YAML, to be written where and when its roster is.
        processes: that share the work; each makes a runner from the same arguments.
        track: is told each line of a meta-training's log, with the learner's name.
        title: of the bar.
    """

    def __init__(
        self,
        folder: RunFolder,
        entrants: Sequence[Entrant],
        episodes: Iterable[Episode],
        config: str,
        processes: Processes = ALONE,
        track: Callable[[str, Mapping[str, Any]], None] | None = None,
        title: str = "Running",
    ) -> None:
        self._title = title
        self._folder = folder
        self._config = config
        self._track = track
        self._entrants = entrants
        self._asked = suited(entrants, episodes)
        for entrant in entrants:
            sharing = [e for e in entrants if e.model is entrant.model and e.made is None]
            entrant.model.entrants = sharing
        self._processes = processes
        self._pace = Pace()
        self._done: dict[str, set[str]] = {}  # fingerprints by learner key
        self._roster = Roster(folder, entrants)

    def run(self) -> None:
        """Do what is not done yet.

        Raises:
            IclError: a learner failed on an episode (the records so far are kept), or the folder
                cannot be written.
            KeyboardInterrupt: the run was asked to stop; what was under way is finished and kept.
        """
        plan = self._processes.on_main(self._prepare)
        if plan is None:
            return
        self._roster.rows, pending = plan
        self._episodes = self._folder.episodes()
        if not self._processes.main and self._roster.exchanged(pending):
            raise IclError(
                f"Process {self._processes.index} has loaded another model than process 0; give"
                " `model.revision`, or a directory that all machines share."
            )
        todo = [entrant for entrant in self._entrants if entrant.name in pending]
        self._plan(todo, pending)
        main = self._processes.main
        with progress(self._title, shown=main) as bar, interrupt.at_the_next_step(say=main):
            models = by_model(todo)
            for number, (model, sharing) in enumerate(models.items(), start=1):
                self._work(sharing, pending, bar)
                if number < len(models):  # the next one may need its room
                    model.release()
            self._processes.meet()
        if main:
            self._folder.store.gather()

    def _work(
        self, entrants: Sequence[Entrant], pending: Mapping[str, Sequence[int]], bar: Bar
    ) -> None:
        """Do what is left of the entrants on one model."""
        # The first episode of each tells what the rest will take; then the quick ones first.
        plain = [(e, e.learner()) for e in entrants if e.training is None]
        shares = {e.name: list(self._processes.share(pending[e.name])) for e, _ in plain}
        for entrant, learner in plain:
            self._judge(entrant, learner, bar, shares[entrant.name][:1])
        for entrant, learner in plain:
            self._judge(entrant, learner, bar, shares[entrant.name][1:])
        for entrant in entrants:
            if entrant.training is not None and entrant.sampler is not None:
                learner = self._trained(entrant, entrant.training, entrant.sampler, bar)
                left = self._processes.on_main(partial(self._pending, entrant))
                self._judge(entrant, learner, bar, self._processes.share(left))

    def _prepare(self) -> tuple[dict[str, Row], dict[str, list[int]]] | None:
        """Write what is known before the start; return the roster and what is left to do."""
        self._folder.store.gather()
        self._begin()
        for record in self._folder.store.scan():
            self._done.setdefault(record.learner_key, set()).add(record.fingerprint)
        left = self._left()
        # now, before anything more is written: models may not suit, or be others than was foretold
        if self._roster.exchanged(left):
            self._roster.enter()
            self._roster.write(self._episodes.digest)
            left = self._left()
        if not left:
            return None
        self._folder.write_json("environment.json", environment())
        return self._roster.rows, left

    def _begin(self) -> None:
        """Write episodes, configuration and roster together.

        What may fail comes before: a start that fails leaves the folder as it was.
        """
        with ExitStack() as stack:
            with progress("Drawing episodes", counted=False) as bar:
                drawn = self._folder.drawn(told(self._asked, bar, "episode"))
                place = stack.enter_context(drawn)
            self._roster.enter()
            place()
        self._episodes = self._folder.episodes()
        self._folder.write("config.yaml", self._config)
        self._roster.write(self._episodes.digest)

    def _left(self) -> dict[str, list[int]]:
        """Return the places of each entrant's episodes that are not done, where there are any."""
        pending = {e.name: self._pending(e) for e in self._entrants}
        return {name: places for name, places in pending.items() if places}

    def _pending(self, entrant: Entrant) -> list[int]:
        """Return the places of the episodes that an entrant has no record of."""
        done = self._done.get(self._roster.rows[entrant.name]["key"] or "", set())
        return [i for i, f in enumerate(self._episodes.fingerprints()) if f not in done]

    def _plan(self, todo: Iterable[Entrant], pending: Mapping[str, Sequence[int]]) -> None:
        for entrant in todo:
            if entrant.training is not None and self._roster.rows[entrant.name]["key"] is None:
                steps, batch = entrant.training.steps, entrant.training.meta_batch
                # a step runs its episodes as one batch, for about a third of what they take alone
                self._pace.plan(_training(entrant), steps, weight=batch / 3)
            self._pace.plan(entrant.name, len(self._processes.share(pending[entrant.name])))
        if self._processes.main:
            names = {self._roster.rows[e.name]["key"]: e.name for e in todo}
            for record in self._folder.store.scan():
                if record.learner_key in names:
                    self._pace.know(names[record.learner_key], record.cost.seconds)

    def _trained(
        self, entrant: Entrant, training: TrainingConfig, sampler: EpisodeSampler, bar: Bar
    ) -> Learner:
        from icl.training.trainer import MetaTrainer

        learner = entrant.learner()
        if not isinstance(learner, MetaLearner):
            raise IclError(f"The method {entrant.method!r} is not meta-trained; drop `training`.")
        folder = self._roster.rows[entrant.name]["folder"]
        trainer = MetaTrainer(
            learner,
            entrant.model.backbone(),
            sampler,
            training,
            self._folder.path / folder,
            folder,
            self._processes,
            None if self._track is None else partial(self._track, entrant.name),
            entrant.name,
        )
        bar.say(f"{entrant.name}, meta-training")
        summary = asdict(trainer.fit(self._on_step(entrant, bar)))
        self._roster.settle(entrant, summary)
        if self._processes.main:
            self._folder.write_json(f"{folder}/{FINISHED}", summary)
            self._roster.write(self._episodes.digest)
        return learner

    def _on_step(self, entrant: Entrant, bar: Bar) -> Callable[[int, int, float], None]:
        kind = _training(entrant)
        last = time.perf_counter()

        def note(step: int, steps: int, loss: float) -> None:
            nonlocal last
            now = time.perf_counter()
            self._pace.took(kind, now - last)
            self._pace.plan(kind, steps - step)  # a resumed training began at a later step
            last = now
            bar.did("step", loss)
            bar.say(f"{entrant.name}, meta-training, step {step} of {steps}, loss {loss:.3f}")
            bar.estimate(self._pace.spent, self._pace.left() or 0.0)

        return note

    def _judge(self, entrant: Entrant, learner: Learner, bar: Bar, places: Sequence[int]) -> None:
        """Run a learner on some episodes and keep each record."""
        key = self._roster.rows[entrant.name]["key"]
        model = entrant.model.backbone()
        pool = bool(getattr(entrant.params, "pool", False))  # a parameter of some methods
        for number, place in enumerate(places, start=1):
            interrupt.stop_if_asked()
            episode = self._episodes[place]
            bar.say(f"{entrant.name}, episode {number} of {len(places)}")
            try:
                record = judge(learner, entrant.name, key, episode, model, pool=pool)
            except Exception as error:
                raise self._fault(entrant, episode, error) from error
            self._folder.store.append(record)
            self._pace.took(entrant.name, record.cost.seconds)
            bar.did("episode")
            bar.estimate(self._pace.spent, self._pace.left() or 0.0)

    def _fault(self, entrant: Entrant, episode: Episode, error: Exception) -> IclError:
        self._folder.write("error.log", "".join(traceback.format_exception(error)))
        reason = " ".join(str(error).split()).rstrip(".") or "no reason given"
        kind = "" if isinstance(error, IclError) else f"{type(error).__name__}: "
        return IclError(
            f"The learner {entrant.name!r} failed on episode {episode.fingerprint} (task"
            f" {episode.task!r}, {episode.query_language}, {episode.shots} shots): {kind}{reason};"
            f" the records so far are kept and the details are in {self._folder.path}/error.log."
        )


def _training(entrant: Entrant) -> str:
    return f"training of {entrant.name}"

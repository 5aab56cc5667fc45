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
from icl.learners.registry import make
from icl.processes import ALONE, Processes
from icl.runs.entrants import Entrant, Model, suited
from icl.runs.environment import environment
from icl.runs.folder import SCHEMA_VERSION, RunFolder
from icl.runs.judge import judge
from icl.runs.keys import learner_key, training_key
from icl.runs.pace import Pace
from icl.tools import interrupt
from icl.tools.progress import Bar, progress, told
from icl.training import TrainingConfig
from icl.training.outcome import TrainingSummary


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
        model: the backbone that all of them share.
        training_episodes: what each meta-learner is trained on, by the entrant's name.
        processes: that share the work; each makes a runner from the same arguments.
        track: is told each line of a meta-training's log, with the learner's name.
        config: the experiment, to be written where and when its roster is.
    """

    def __init__(
        self,
        folder: RunFolder,
        entrants: Sequence[Entrant],
        episodes: Iterable[Episode],
        model: Model,
        training_episodes: Mapping[str, EpisodeSampler],
        processes: Processes = ALONE,
        track: Callable[[str, Mapping[str, Any]], None] | None = None,
        config: str | None = None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._track = track
        self._entrants = entrants
        self._asked = suited(entrants, training_episodes, episodes)
        self._model = model
        model.entrants = entrants
        self._training_episodes = training_episodes
        self._processes = processes
        self._pace = Pace()
        self._done: dict[str, set[str]] = {}  # fingerprints by learner key
        self._roster: dict[str, dict[str, Any]] = {}

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
        identity, self._roster, pending = plan
        self._episodes = self._folder.episodes()
        self._check_model(identity)
        todo = [entrant for entrant in self._entrants if entrant.name in pending]
        self._plan(todo, pending)
        main = self._processes.main
        with progress("Running", shown=main) as bar, interrupt.at_the_next_step(say=main):
            # The first episode of each tells what the rest will take; then the quick ones first.
            plain = [(e, self._make(e)) for e in todo if e.training is None]
            shares = {e.name: list(self._processes.share(pending[e.name])) for e, _ in plain}
            for entrant, learner in plain:
                self._judge(entrant, learner, bar, shares[entrant.name][:1])
            for entrant, learner in plain:
                self._judge(entrant, learner, bar, shares[entrant.name][1:])
            for entrant in todo:
                if entrant.training is not None:
                    learner = self._trained(entrant, entrant.training, identity, bar)
                    left = self._processes.on_main(partial(self._pending, entrant))
                    self._judge(entrant, learner, bar, self._processes.share(left))
            self._processes.meet()
        if main:
            self._folder.store.gather()

    def _prepare(self) -> tuple[str, dict[str, dict[str, Any]], dict[str, list[int]]] | None:
        """Write what is known before the start; return identity, roster and what is left to do."""
        self._folder.store.gather()
        identity = self._begin()
        for record in self._folder.store.scan():
            self._done.setdefault(record.learner_key, set()).add(record.fingerprint)
        left = self._left()
        if left and self._model.backbone().identity != identity:  # exchanged just now
            identity = self._model.backbone().identity
            self._enter_all(identity)
            self._write_roster(identity)
            left = self._left()
        if not left:
            return None
        self._model.backbone()  # now, before anything more is written: it may not be the one to use
        self._folder.write_json("environment.json", environment())
        return identity, self._roster, left

    def _begin(self) -> str:
        """Write episodes, configuration and roster together; return the model's identity.

        What may fail comes before: a start that fails leaves the folder as it was.
        """
        with ExitStack() as stack:
            with progress("Drawing episodes", counted=False) as bar:
                drawn = self._folder.drawn(told(self._asked, bar, "episode"))
                place = stack.enter_context(drawn)
            identity = self._model.identity(self._folder.read_derived("run.json").get("model"))
            self._enter_all(identity)
            place()
        self._episodes = self._folder.episodes()
        if self._config is not None:
            self._folder.write("config.yaml", self._config)
        self._write_roster(identity)
        return identity

    def _left(self) -> dict[str, list[int]]:
        """Return the places of each entrant's episodes that are not done, where there are any."""
        pending = {e.name: self._pending(e) for e in self._entrants}
        return {name: places for name, places in pending.items() if places}

    def _check_model(self, identity: str) -> None:
        """Raise `IclError` where this process has loaded another model than the main one."""
        if not self._processes.main and self._model.backbone().identity != identity:
            raise IclError(
                f"Process {self._processes.index} has loaded another model than process 0; give"
                " `model.revision`, or a directory that all machines share."
            )

    def _enter_all(self, identity: str) -> None:
        for entrant in self._entrants:
            self._enter(entrant, identity)

    def _enter(self, entrant: Entrant, identity: str) -> None:
        """Put an entrant on the roster, with its key where that is known before training."""
        row: dict[str, Any] = {"name": entrant.name, "method": entrant.method, "training": None}
        self._roster[entrant.name] = row
        params = entrant.params.identity()
        if entrant.training is None:
            row["key"] = learner_key(entrant.method, params, identity)
            return
        sampler = self._training_episodes[entrant.name]
        row["folder"] = "meta/" + training_key(
            entrant.method, params, entrant.training, identity, sampler
        )
        row["key"] = None
        summary = TrainingSummary.of(self._folder.read_derived(f"{row['folder']}/finished.json"))
        if summary is not None:  # else the last checkpoint gives it again
            self._settle(entrant, identity, asdict(summary))

    def _pending(self, entrant: Entrant) -> list[int]:
        """Return the places of the episodes that an entrant has no record of."""
        done = self._done.get(self._roster[entrant.name]["key"] or "", set())
        return [i for i, f in enumerate(self._episodes.fingerprints()) if f not in done]

    def _write_roster(self, identity: str) -> None:
        """Write the learners, the model, and the hash of the episodes that these go with."""
        self._folder.write_json(
            "run.json",
            {
                "schema_version": SCHEMA_VERSION,
                "model": identity,
                "episodes": self._episodes.digest,
                "learners": list(self._roster.values()),
            },
        )

    def _plan(self, todo: Iterable[Entrant], pending: Mapping[str, Sequence[int]]) -> None:
        for entrant in todo:
            if entrant.training is not None and self._roster[entrant.name]["key"] is None:
                steps, batch = entrant.training.steps, entrant.training.meta_batch
                # a step runs its episodes as one batch, for about a third of what they take alone
                self._pace.plan(_training(entrant), steps, weight=batch / 3)
            self._pace.plan(entrant.name, len(self._processes.share(pending[entrant.name])))
        if self._processes.main:
            names = {self._roster[e.name]["key"]: e.name for e in todo}
            for record in self._folder.store.scan():
                if record.learner_key in names:
                    self._pace.know(names[record.learner_key], record.cost.seconds)

    def _make(self, entrant: Entrant) -> Learner:
        return make(entrant.method, entrant.params.model_dump(), self._model.backbone())

    def _trained(
        self, entrant: Entrant, training: TrainingConfig, identity: str, bar: Bar
    ) -> Learner:
        from icl.training.trainer import MetaTrainer

        learner = self._make(entrant)
        if not isinstance(learner, MetaLearner):
            raise IclError(f"The method {entrant.method!r} is not meta-trained; drop `training`.")
        row = self._roster[entrant.name]
        folder = row["folder"]
        sampler = self._training_episodes[entrant.name]
        trainer = MetaTrainer(
            learner,
            self._model.backbone(),
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
        self._settle(entrant, identity, summary)
        if self._processes.main:
            self._folder.write_json(f"{folder}/finished.json", summary)
            self._write_roster(identity)
        return learner

    def _settle(self, entrant: Entrant, identity: str, summary: dict[str, Any]) -> None:
        """Give a trained meta-learner the key that its training has decided."""
        row = self._roster[entrant.name]
        params = entrant.params.identity()
        row["training"] = summary
        row["key"] = learner_key(entrant.method, params, identity, summary["digest"])

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
        key = self._roster[entrant.name]["key"]
        pool = bool(getattr(entrant.params, "pool", False))  # a parameter of some methods
        for number, place in enumerate(places, start=1):
            interrupt.stop_if_asked()
            episode = self._episodes[place]
            bar.say(f"{entrant.name}, episode {number} of {len(places)}")
            try:
                record = judge(
                    learner, entrant.name, key, episode, self._model.backbone(), pool=pool
                )
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

"""Trackers: what they are told, each in its own way, and that they cannot end a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from icl.tools import interrupt
from icl.tools.trackers import Trackers
from tests.place import Place

LEARNERS = "learners:\n" + "".join(
    f"  {name}: {{method: fomaml, inner_steps: {steps},"
    " training: {steps: 3, meta_batch: 2, shots: 2, queries: 3}}\n"
    for steps, name in enumerate(("fomaml", "maml++"), start=1)
)


def two_trained(place: Place) -> Path:
    path = place.write()
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("learners:")] + LEARNERS, "utf-8")
    return path


def losses(run: Path) -> dict[str, list[float]]:
    """Return the losses that the run's own logs hold, by learner."""
    roster = json.loads((run / "run.json").read_text())["learners"]
    return {
        row["name"]: [
            json.loads(line)["loss"] for line in (run / row["folder"] / "log.jsonl").open()
        ]
        for row in roster
    }


def test_tensorboard_is_told_each_step_the_accuracies_and_the_configuration(
    place: Place,
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, _, err = place.icl("run", two_trained(place), "--out", "run", "--track", "tensorboard")
    assert code == 0, err
    found = EventAccumulator("run/trackers/tiny")
    found.Reload()
    for name, wanted in losses(Path("run")).items():
        told = found.Scalars(f"{name}/loss")
        assert [event.step for event in told] == [1, 2, 3]
        assert [event.value for event in told] == pytest.approx(wanted)
        assert len(found.Scalars(f"{name}/accuracy")) == 1
    (settings,) = Path("run/trackers").rglob("hparams.yml")
    assert "learners.fomaml.inner_steps: 1" in settings.read_text()


def test_wandb_keeps_the_steps_of_every_learner(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its runs have one step that never goes back: what is told of an earlier one is dropped."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    rows: list[dict[str, Any]] = []
    real = wandb.Run.log

    def log(self: Any, data: dict[str, Any], step: int | None = None, **more: Any) -> None:
        assert step is None
        rows.append(data)
        real(self, data, step=step, **more)

    monkeypatch.setattr(wandb.Run, "log", log)
    code, _, err = place.icl("run", two_trained(place), "--out", "run", "--track", "wandb")
    assert code == 0, err
    assert "will be ignored" not in err
    for name, wanted in losses(Path("run")).items():
        told = [(row[f"{name}/step"], row[f"{name}/loss"]) for row in rows if f"{name}/loss" in row]
        assert told == list(enumerate(wanted, start=1))
        assert sum(f"{name}/accuracy" in row for row in rows) == 1


def test_mlflow_keeps_the_steps_of_every_learner(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{place.folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    code, _, err = place.icl("run", two_trained(place), "--out", "run", "--track", "mlflow")
    assert code == 0, err
    client = mlflow.MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["learners.fomaml.inner_steps"] == "1"
    for name, wanted in losses(Path("run")).items():
        taken = name.replace("+", "_")  # which it refuses
        told = client.get_metric_history(run.info.run_id, f"{taken}/loss")
        assert [(m.step, m.value) for m in told] == list(enumerate(wanted, start=1))
        assert f"{taken}/accuracy" in run.data.metrics


class Fake:
    """A tracker that keeps what it is told, and can fail."""

    name = "fake"
    requires_logging_directory = False
    fails = ""
    told: list[tuple[str, Any]]

    def __init__(self, run: str) -> None:
        type(self).told = []

    def start(self) -> None:
        self._do("start", None)

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        self._do("configuration", values)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        self._do("log", (values, step))

    def finish(self) -> None:
        self._do("finish", None)

    def _do(self, kind: str, value: Any) -> None:
        if kind == self.fails:
            raise ConnectionError("the server is gone")
        self.told.append((kind, value))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    from accelerate import tracking

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "fake", Fake)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["fake"])
    return Fake


def test_a_tracker_that_fails_on_the_way_is_named_once_and_the_run_ends_well(
    fake: type[Fake],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake, "fails", "log")
    code, _, err = place.icl("run", two_trained(place), "--out", "run", "--track", "fake")
    assert code == 0
    assert err.count("The tracker 'fake' failed (the server is gone)") == 1
    assert [len(found) for found in losses(Path("run")).values()] == [3, 3]


def test_trackers_are_told_steps_that_begin_anew_with_each_learner(
    fake: type[Fake],
    place: Place,
) -> None:
    assert place.icl("run", two_trained(place), "--out", "run", "--track", "fake")[0] == 0
    logged = [value for kind, value in fake.told if kind == "log"]
    for name, wanted in losses(Path("run")).items():
        told = [(step, v[f"{name}/loss"]) for v, step in logged if f"{name}/loss" in v]
        assert told == list(enumerate(wanted, start=1))


def test_a_tracker_that_does_not_start_is_told_before_anything_is_done(
    fake: type[Fake],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake, "fails", "start")
    told = place.refusal("run", two_trained(place), "--track", "fake")
    assert "The tracker 'fake' cannot be started: the server is gone." in told


def test_a_tracker_is_finished_when_the_run_is_stopped(
    fake: type[Fake],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Trackers.line

    def line(self: Trackers, learner: str, values: Mapping[str, Any]) -> None:
        real(self, learner, values)
        interrupt.ask()

    monkeypatch.setattr(Trackers, "line", line)
    code, _, _ = place.icl("run", two_trained(place), "--out", "run", "--track", "fake")
    assert code == 130
    assert [kind for kind, _ in fake.told][-2:] == ["log", "finish"]


def test_an_unknown_tracker_is_told(place: Place) -> None:
    told = place.refusal("run", place.write(), "--track", "tensorbord")
    assert "Did you mean 'tensorboard'?" in told

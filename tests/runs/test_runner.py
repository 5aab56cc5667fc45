"""The runner: identical episodes, nothing lost, nothing done twice, nothing leaked."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from icl.errors import IclError
from icl.learners.base import Learner, Predictor
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.runs import entrants as entrants_module
from icl.runs.folder import RunFolder
from icl.runs.judge import judge, predictions
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore, same_outcomes
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from tests import forked, tiny
from tests.evaluation import small_run

QUICK = {"majority": small_run.LEARNERS["majority"], "prototypes": ("prototypes", {}, None)}


def must_not_load() -> Backbone:
    raise AssertionError("a model was loaded")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return small_run.run(tmp_path_factory.mktemp("whole"), tiny.backbone)


def test_all_learners_are_judged_on_the_same_episodes(whole_run: RunFolder) -> None:
    fingerprints = Counter(e.fingerprint for e in whole_run.episodes())
    assert set(fingerprints.values()) == {1}
    records = whole_run.store.read()
    assert {r.learner for r in records} == set(small_run.LEARNERS)
    for name in small_run.LEARNERS:
        assert Counter(r.fingerprint for r in records if r.learner == name) == fingerprints


def test_records_tell_what_the_episode_holds(whole_run: RunFolder) -> None:
    episodes = {e.fingerprint: e for e in whole_run.episodes()}
    for record in whole_run.store.read():
        episode = episodes[record.fingerprint]
        assert record.query_ids == tuple(e.id for e in episode.query)
        gold = [record.labels[column] for column in record.gold]
        assert gold == [e.label for e in episode.query]
        assert record.cost.seconds > 0
        assert record.cost.peak_memory_mb > 0


def test_a_finished_run_is_repeated_without_loading_a_model(whole_run: RunFolder) -> None:
    names = ("records.jsonl", "environment.json", "episodes.jsonl", "run.json")
    before = [(whole_run.path / name).read_bytes() for name in names]
    (whole_run.path / "environment.json").write_bytes(before[1] + b"\n")  # of another machine
    small_run.run(whole_run.path, must_not_load)
    assert (whole_run.path / "environment.json").read_bytes() == before[1] + b"\n"
    (whole_run.path / "environment.json").write_bytes(before[1])
    assert [(whole_run.path / name).read_bytes() for name in names] == before


def test_a_model_that_may_have_changed_is_loaded_and_asked(whole_run: RunFolder) -> None:
    with pytest.raises(AssertionError, match="a model was loaded"):
        small_run.run(whole_run.path, must_not_load, foretold="another")
    small_run.run(whole_run.path, tiny.backbone)  # sets the folder right again


def test_another_model_redoes_everything(tmp_path: Path) -> None:
    small_run.run(tmp_path, tiny.backbone, QUICK)
    run = small_run.run(tmp_path, lambda: tiny.backbone("qwen2"), QUICK, foretold="another")
    assert len(run.store.read()) == 2 * len(QUICK) * len(run.episodes())


def test_a_changed_parameter_redoes_that_learner_only(tmp_path: Path) -> None:
    small_run.run(tmp_path, tiny.backbone, QUICK | {"lora": ("lora", {"steps": 1}, None)})
    run = small_run.run(tmp_path, tiny.backbone, QUICK | {"lora": ("lora", {"steps": 2}, None)})
    episodes = len(run.episodes())
    assert Counter(r.learner for r in run.store.read()) == {
        "majority": episodes,
        "prototypes": episodes,
        "lora": 2 * episodes,
    }


def test_more_episodes_keep_the_first_ones(tmp_path: Path) -> None:
    small_run.run(tmp_path, tiny.backbone, QUICK, count=1)
    first = RecordStore(tmp_path).read()
    run = small_run.run(tmp_path, tiny.backbone, QUICK, count=2)
    assert run.store.read()[: len(first)] == first
    assert len(run.store.read()) == 2 * len(first)


def test_a_renamed_learner_keeps_its_records(tmp_path: Path) -> None:
    run = small_run.run(tmp_path, tiny.backbone, {"old": ("majority", {}, None)})
    before = run.store.path.read_bytes()
    run = small_run.run(tmp_path, must_not_load, {"new": ("majority", {}, None)})
    assert run.store.path.read_bytes() == before
    rows = run.read_json("run.json")["learners"]
    found = run.records(
        {r["name"]: r["key"] for r in rows}, [e.fingerprint for e in run.episodes()]
    )
    assert {r.learner for r in found} == {"new"}


class _Failing(Learner):
    method = "majority"

    def __init__(self, backbone: Backbone, params: Any) -> None:
        self.inner = make("majority", {}, backbone)
        self.seen = 0

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        self.seen += 1
        if self.seen == 3:
            raise RuntimeError("the third episode\nwas too much.")
        return self.inner.adapt(support, labels)


def test_more_labels_than_a_learner_has_columns_for_are_refused_before_a_model_loads(
    tmp_path: Path,
) -> None:
    training = small_run.TRAINING.model_copy(update={"ways": 2})
    learners = {"mine": ("snail", {}, training), "metric": ("meta-prototypes", {}, training)}
    with pytest.raises(IclError, match=r"'mine' is meta-trained with 2 labels.*to 3 or more"):
        small_run.run(tmp_path, must_not_load, learners)


def test_a_failing_learner_is_named_with_its_episode_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrants_module, "make", lambda m, p, backbone: _Failing(backbone, p))
    with pytest.raises(IclError) as caught:
        small_run.run(tmp_path, tiny.backbone, {"fragile": ("majority", {}, None)})
    fingerprint = RunFolder(tmp_path).episodes()[2].fingerprint
    assert "'fragile'" in str(caught.value)
    assert fingerprint in str(caught.value)
    assert "RuntimeError: the third episode was too much;" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(RecordStore(tmp_path).read()) == 2
    assert "Traceback" in (tmp_path / "error.log").read_text()


class _Spy(Learner):
    method = "majority"

    def __init__(self) -> None:
        self.texts: list[Fields] = []

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        return _SpyPredictor(self, len(labels))


class _SpyPredictor(Predictor):
    def __init__(self, spy: _Spy, labels: int) -> None:
        self.spy, self.labels = spy, labels

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        self.spy.texts += texts
        return torch.zeros(len(texts), self.labels).log_softmax(1)


def test_a_predictor_is_shown_the_fields_of_the_queries_and_nothing_else() -> None:
    spy, backbone = _Spy(), tiny.backbone()
    for episode in small_run.episodes():
        spy.texts.clear()
        judge(spy, "spy", "key", episode, backbone)
        assert spy.texts == [dict(example.fields) for example in episode.query]


@pytest.mark.parametrize(
    "scores", [torch.zeros(3, 2).log_softmax(1), torch.full((3, 3), float("nan"))]
)
def test_scores_that_are_none_are_refused(scores: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_SpyPredictor, "log_probs", lambda self, texts: scores)
    with pytest.raises(ValueError, match=r"shape|NaN"):
        judge(_Spy(), "spy", "key", small_run.episodes()[0], tiny.backbone())


def test_ties_favour_no_column_and_fall_the_same_way_every_time() -> None:
    rows = [(-1.0, -0.5, -0.5, -0.5)] * 3000
    chosen = predictions(rows, "an episode")
    assert chosen == predictions(rows, "an episode")
    counts = Counter(chosen)
    assert counts[0] == 0
    assert all(900 < counts[column] < 1100 for column in (1, 2, 3))
    assert predictions(rows, "another") != chosen


def test_a_folder_in_use_refuses_a_second_run(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(IclError, match=r"Another run .* --out"):
        small_run.run(tmp_path, must_not_load, QUICK)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IclError, match=r"Cannot write .*file.*--out"):
        small_run.run(tmp_path / "file" / "run", must_not_load, QUICK)


def _records(folder: Path) -> list[EpisodeRecord]:
    return RecordStore(folder).read()


def _run_tiny(folder: Path, model: Path) -> None:
    from icl.models.loading.load import load_backbone

    small_run.run(folder, lambda: load_backbone(str(model)))


def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model")
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def finish(folder: Path) -> None:
        assert forked.finish([forked.start(_run_tiny, folder, model)], 120) == [0]

    finish(whole)
    total = len(_records(whole))
    chance = random.Random(0)
    interrupted = 0
    for share in (0.0, 0.02, 0.1, 0.35, 0.6, 0.84, 0.86):  # fomaml trains after six sevenths
        process = forked.start(_run_tiny, broken, model)
        while process.is_alive() and len(_records(broken)) < share * total:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))  # anywhere: in a learner, in training, in a write
        process.kill()
        process.join()
        interrupted += process.exitcode == -signal.SIGKILL
    assert interrupted >= 4  # a late kill may find the run finished
    finish(broken)
    assert len(_records(broken)) == total
    assert same_outcomes(_records(whole), _records(broken))

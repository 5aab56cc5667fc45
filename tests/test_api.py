"""The names that a script uses: quick to import, documented, and equal to what `icl run` does."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

import icl
from icl.episodes import Episode, EpisodeSampler
from icl.learners import Learner, Params, Predictor
from icl.models.loading import load as loading
from icl.runs.folder import RunFolder
from icl.tasks.loaded import TaskFamily
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from tests import tiny
from tests.place import EXPERIMENT, FAMILY, write_all, write_data


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> TaskFamily:
    folder = tmp_path_factory.mktemp("family")
    write_data(folder / "data", each=8)
    (folder / "things.yaml").write_text(FAMILY)
    return icl.load_task(folder / "things.yaml", data=folder / "data")


@pytest.fixture(scope="module")
def episodes(family: TaskFamily) -> list[Episode]:
    return icl.episodes.draw(family, ways=3, shots=[1, 2], queries=3, count=3)


def test_importing_is_quick_since_nothing_heavy_is_loaded() -> None:
    code = (
        "import time; start = time.perf_counter(); import sys, icl\n"
        "dir(icl); seconds = time.perf_counter() - start\n"
        "print(seconds, *{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.5
    assert {"torch", "transformers", "numpy", "pydantic"}.isdisjoint(modules)


@pytest.mark.parametrize("name", icl.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(icl, name)
    assert name in dir(icl)
    if name != "__version__":
        assert len(inspect.getdoc(found) or "") > 40


def test_an_unknown_name_is_told_as_python_does() -> None:
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        icl.comparee  # type: ignore[attr-defined]  # noqa: B018


def test_drawing_is_what_the_sampler_does(family: TaskFamily, episodes: list[Episode]) -> None:
    sampler = EpisodeSampler(family, "test", ways=3, shots=[1, 2], queries=3)
    assert episodes == list(sampler.episodes(3))
    crossed = icl.episodes.draw(family, ways=2, shots=1, queries=2, count=2, support_language="aa")
    assert {e.support_language for e in crossed} == {"aa"}
    assert {e.setting for e in crossed} == {"cross-lingual"}


def test_comparing_in_python_is_what_icl_run_does(
    tmp_path: Path, family: TaskFamily, episodes: list[Episode]
) -> None:
    model = tiny.save(tmp_path / "model")
    found = icl.compare(
        {
            "majority": "majority",
            "in-context": {},
            "short": {"method": "lora", "steps": 2},
            "fomaml": {
                "inner_steps": 1,
                "training": {"steps": 2, "meta_batch": 2, "shots": 2, "queries": 3},
            },
        },
        episodes,
        model=str(model),
        family=family,
        out=tmp_path / "run",
    )
    assert [r.learner for r in found.records[:: len(episodes)]] == [
        "majority", "in-context", "short", "fomaml",
    ]  # fmt: skip
    learner = icl.learners.make("lora", icl.load_model(str(model)), steps=2)
    for record, episode in zip(found.records[2 * len(episodes) :], episodes, strict=False):
        own = learner.adapt(episode.support, episode.labels)
        scores = own.log_probs([e.fields for e in episode.query])
        torch.testing.assert_close(scores, torch.tensor(record.log_probs), atol=1e-4, rtol=0)
    frame = found.frame()
    assert sorted(frame["learner"]) == ["fomaml", "in-context", "majority", "short"]
    queries = found.queries()
    assert len(queries) == 4 * len(episodes) * 3
    shares = queries.groupby("learner")["right"].mean()
    pd.testing.assert_series_equal(
        frame.set_index("learner")[frame.columns[2]].sort_index(), shares, check_names=False
    )
    assert len(found.episodes()) == len(found.records)
    assert set(found.curves()["shots"]) == {1, 2}
    assert "short" in str(found)
    assert "fomaml" in found.meta_training
    again = icl.compare({"majority": {}}, episodes, model=str(model), out=tmp_path / "run")
    assert again.records == found.records[: len(episodes)]  # seconds included: nothing was redone


class Longest(Learner):
    """A learner of one's own: the label whose support texts have the nearest length."""

    method = "longest"

    def __init__(self, backbone: object = None, params: Params | None = None) -> None:
        self.calls = 0

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        self.calls += 1
        return _Lengths(support, labels)


class _Lengths(Predictor):
    def __init__(self, support: Sequence[Example], labels: Labels) -> None:
        sizes = [[len(e.text) for e in support if e.label == name] for name in labels.names]
        self._means = torch.tensor([sum(own) / len(own) for own in sizes])

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        sizes = torch.tensor([float(sum(map(len, fields.values()))) for fields in texts])
        return (-(sizes[:, None] - self._means).abs()).log_softmax(1)


def test_a_learner_of_ones_own_is_compared_beside_the_others(episodes: list[Episode]) -> None:
    own = Longest()
    found = icl.compare({"mine": own, "majority": {}}, episodes, tiny.backbone())
    assert own.calls == len(episodes)
    assert {r.learner for r in found.records} == {"mine", "majority"}
    assert len(found.frame()) == 2


def test_a_learner_of_ones_own_is_kept_in_the_folder_and_judged_anew(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    own, backbone = Longest(), tiny.backbone()
    first = icl.compare({"mine": own, "majority": {}}, episodes, backbone, out=tmp_path)
    again = icl.compare({"mine": own, "majority": {}}, episodes, backbone, out=tmp_path)
    assert own.calls == 2 * len(episodes)
    assert again.records[len(episodes) :] == first.records[len(episodes) :]  # seconds included
    assert icl.open_run(tmp_path).records == again.records
    assert len(again.records) == 2 * len(episodes)
    assert again.report == tmp_path / "report.html"
    said = yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8"))
    assert said["learners"]["mine"] == {"method": "tests.test_api:Longest"}
    assert said["model"]["name"] == backbone.name


def test_comparing_goes_on_with_what_icl_run_has_meta_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_all(tmp_path)
    run = tmp_path / "run"
    found = icl.run(path, out=run, limit=1)
    learners = yaml.safe_load(path.read_text("utf-8"))["learners"]
    family = icl.load_task(tmp_path / "things.yaml", data=tmp_path / "data")
    drawn = RunFolder(run).episodes()

    def must_not_load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    model = str(tmp_path / "model")
    compared = icl.compare(learners, drawn, model, family=family, out=run)
    assert compared.records == found.records
    assert compared.meta_training == found.meta_training
    assert icl.run(run / "config.yaml", out=run).records == found.records


def test_what_cannot_be_compared_is_told(family: TaskFamily, episodes: list[Episode]) -> None:
    model = tiny.backbone()
    with pytest.raises(icl.IclError, match="no episodes"):
        icl.compare(["majority"], [], model)
    with pytest.raises(icl.IclError, match="no learners"):
        icl.compare([], episodes, model)
    with pytest.raises(icl.IclError, match=r"'in-contxt'.*Did you mean 'in-context'"):
        icl.compare(["in-contxt"], episodes, model)
    with pytest.raises(icl.IclError, match=r"'a'.*Did you mean 'steps'"):
        icl.compare({"a": {"method": "lora", "stps": 1}}, episodes, model)
    with pytest.raises(icl.IclError, match="meta-trained first"):
        icl.compare(["maml"], episodes, model)


def test_an_experiment_runs_and_its_folder_opens(tmp_path: Path) -> None:
    config = write_all(tmp_path, EXPERIMENT.split("  prototypes:")[0])
    found = icl.run(config, out=tmp_path / "run", limit=1)
    assert found.report == tmp_path / "run" / "report.html"
    opened = icl.open_run(tmp_path / "run")
    assert opened.records == found.records


def test_a_model_changed_in_memory_is_another_and_nothing_is_taken_for_its_own(
    tmp_path: Path, family: TaskFamily
) -> None:
    few = icl.episodes.draw(family, ways=3, shots=1, queries=3, count=1)
    learners, model = ["zero-shot", "prototypes"], tiny.backbone()
    before = icl.compare(learners, few, model, out=tmp_path)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(1.5)
    after = icl.compare(learners, few, model, out=tmp_path)
    again = icl.compare(learners, few, model)
    for old, new, fresh in zip(before.records, after.records, again.records, strict=True):
        assert old.log_probs != new.log_probs == fresh.log_probs


def test_a_learner_is_loaded_from_a_folder_given_as_text(
    tmp_path: Path, family: TaskFamily
) -> None:
    few = icl.episodes.draw(family, ways=3, shots=1, queries=3, count=1)
    icl.compare(["majority"], few, str(tiny.save(tmp_path / "model")), out=tmp_path / "run")
    assert icl.load_learner(str(tmp_path / "run"), "majority").method == "majority"

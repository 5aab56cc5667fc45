"""`icl.run`, `icl.compare`, the command line and the prompt study leave the same folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import icl
from icl.episodes import Episode
from icl.experiments.models import make_model
from icl.experiments.prompt_study import load_study
from icl.models.loading import load as loading
from icl.runs.folder import RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore
from tests.cli.test_prompts import Place, place  # noqa: F401

PAGES = {"report.html", "table.csv", "table.md", "table.tex", "pairs.csv", "prompts.html"}
ROADS = ("study", "compare", "run", "command")


class Roads:
    """Four roads to the same learners on the same episodes."""

    def __init__(self, own: Place) -> None:
        self.place = own
        self.study = own.write("  calibration: [none, contextual]\n", "")
        text = self.study.read_text("utf-8").replace("count: 3", "count: 2")
        self.study.write_text(text.replace("shots: [1, 2]", "shots: [1]"), "utf-8")
        code, _, err = own.icl("prompts", self.study, "--out", "drawn")
        assert code == 0, err
        self.episodes = Path("saved.jsonl")
        shutil.copy("drawn/episodes.jsonl", self.episodes)
        study = load_study(self.study)
        self.learners: dict[str, dict[str, Any]] = {
            entrant.name: {"method": entrant.method, **entrant.params.model_dump(mode="json")}
            for entrant in study.entrants(make_model(study.model))
        }
        self.config = Path("experiment.yaml")
        values = {
            "schema_version": 1, "name": "same", "model": study.model.model_dump(mode="json"),
            "tasks": {"family": "things.yaml", "data": "data"},
            "episodes": {"file": str(self.episodes)}, "learners": self.learners,
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def drawn(self) -> list[Episode]:
        return [Episode.from_json(line) for line in self.episodes.read_text("utf-8").splitlines()]

    def go(self, road: str, out: Path) -> None:
        if road == "study":
            code, _, err = self.place.icl("prompts", self.study, "--out", out)
            assert code == 0, err
        elif road == "compare":
            icl.compare(self.learners, self.drawn(), str(self.place.folder / "model"), out=out)
        elif road == "run":
            icl.run(self.config, out=out)
        else:
            code, _, err = self.place.icl("run", self.config, "--out", out)
            assert code == 0, err


@pytest.fixture
def roads(place: Place) -> Iterator[Roads]:  # noqa: F811
    yield Roads(place)


def found(folder: Path) -> list[tuple[str, object]]:
    """Return all that a folder's records say but for what they cost, in the runner's order."""
    records: list[EpisodeRecord] = RecordStore(folder).read()
    return [(record.learner, record.outcome()) for record in records]


def must_not_load(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")


def test_four_roads_leave_the_same_folder_and_each_goes_on_with_anothers(
    roads: Roads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for road in ROADS:
        roads.go(road, Path(road))
    first = found(Path("study"))
    assert len(first) == len(roads.learners) * len(roads.drawn())
    kept = {path.name for path in Path("study").iterdir()} - PAGES
    roster = json.loads(Path("study/run.json").read_text())
    for road in ROADS[1:]:
        folder = Path(road)
        assert found(folder) == first
        assert {path.name for path in folder.iterdir()} == kept | PAGES - {"prompts.html"}
        assert json.loads((folder / "run.json").read_text()) == roster
        assert (folder / "episodes.jsonl").read_bytes() == roads.episodes.read_bytes()
        assert len(icl.open_run(folder).records) == len(first)
    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    before = {road: Path(road, "records.jsonl").read_bytes() for road in ROADS}
    for made in ROADS:
        for road in ROADS:
            roads.go(road, Path(made))
        assert Path(made, "records.jsonl").read_bytes() == before[made]
    assert roads.place.icl("resume", "study")[0] == 0


@pytest.mark.parametrize("made", ["study", "compare"])
def test_what_was_killed_goes_on_by_any_road(made: str, roads: Roads) -> None:
    roads.go(made, Path("run"))
    whole = sorted(map(str, found(Path("run"))))
    lines = Path("run/records.jsonl").read_bytes().splitlines(keepends=True)
    others: list[Callable[[], object]] = [
        lambda road=road: roads.go(road, Path("run")) for road in ROADS if road != made
    ]
    for go_on in (lambda: roads.place.icl("resume", "run"), *others):
        Path("run/records.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
        go_on()
        assert sorted(map(str, found(Path("run")))) == whole
        assert Path("run/records.jsonl").read_bytes().startswith(b"".join(lines[:3]))


def test_opening_a_run_writes_nothing(roads: Roads) -> None:
    roads.go("compare", Path("run"))
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("run").iterdir()}
    opened = icl.open_run("run")
    assert opened.report == Path("run/report.html")
    assert len(opened.frame()) == len(roads.learners)
    assert files == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path("run").iterdir()}
    Path("run/report.html").unlink()
    assert icl.open_run("run").report is None


def test_a_folder_of_compare_is_read_as_one_of_icl_run(roads: Roads) -> None:
    roads.go("compare", Path("one"))
    roads.go("run", Path("two"))
    for command in (
        ("diagnose", "one"), ("plan", "one", "--difference", 5), ("compare", "one", "two"),
        ("report", "one"), ("resume", "one"),
    ):  # fmt: skip
        code, out, err = roads.place.icl(*command)
        assert code == 0, (command, err)
        assert out
    assert "stand nowhere else" in roads.place.icl("resume", "one", "--limit", 1)[2]
    assert len(RunFolder(Path("one")).episodes()) == len(roads.drawn())
